#!/bin/sh
# venv.sh DIR EXTRAS: makes the virtual environment DIR and installs this checkout with EXTRAS into it.
# Run by the Makefile from the top of the repository; whatever goes wrong ends in one line that says what to do.
set -u
venv=$1 extras=$2
need_gb=${DISK_GB:-9}      # 6 stay; the rest is for what is fetched, until it is unpacked
here=$(pwd -P)
log=$venv/install.log
py=$venv/bin/python
started=$(date +%s)

say() { printf '%s\n' "$*"; }
fail() { printf 'wood_nb: %s\n' "$*" >&2; exit 1; }
interrupted() { printf '\n' >&2; fail 'interrupted: run make again, it takes this step up afresh.'; }
seconds() { echo $(( $(date +%s) - started )); }
is_311() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    is_311 "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer: name one that is."
    echo "$PYTHON"; return
  fi
  for p in python3.13 python3.12 python3.11 python3 python3.14 python; do
    if is_311 "$p"; then echo "$p"; return; fi
  done
  fail 'no Python 3.11 or newer found: install one, or name it, as in: make venv PYTHON=/path/to/python3.12'
}

free_gb() { df -Pk "$(dirname "$venv")" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }'; }

make_venv() {
  python=$(find_python) || exit 1
  "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
    fail "$python cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)."
  mkdir -p "$(dirname "$venv")" || fail "cannot make $venv: choose a folder that can be written, with VENV=folder."
  free=$(free_gb)
  [ "${free:-$need_gb}" -ge "$need_gb" ] ||
    fail "too little disk: about $need_gb GB are needed for $venv and $free GB are free. Make room, or put it elsewhere: make VENV=/other/disk/venv."
  if [ -e "$venv" ]; then
    [ -e "$venv/pyvenv.cfg" ] || [ -e "$venv/.installing" ] || [ -z "$(ls -A "$venv")" ] ||
      fail "$venv is there and is no virtual environment: move it away, or choose another with VENV=folder."
    rm -rf "$venv"
  fi
  mkdir "$venv" || fail "cannot make $venv: choose a folder that can be written, with VENV=folder."
  : >"$venv/.installing"
  [ "${free:-$need_gb}" -ge $((need_gb + 4)) ] || export PIP_NO_CACHE_DIR=1      # pip would keep 3 GB of it
  say "Installing wood_nb into $venv, once: 2 to 5 minutes with a good line, about 6 GB (most of it is PyTorch)."
  say "  virtual environment from $("$python" --version 2>&1) ($python)"
  "$python" -m venv "$venv" >"$log" 2>&1 || { tail -n 5 "$log" >&2; fail "$python could not make $venv (see above)."; }
}

status() {  # how far pip is, from its log
  if grep -q '^Installing collected packages' "$log"; then echo 'unpacking'
  elif grep -q '^Collecting' "$log"; then echo "fetching: $(grep -c '^Collecting' "$log") packages so far"
  else echo 'looking at what is there'; fi
}

untouched() { ! grep -q '^Installing collected packages' "$log"; }   # pip fetches everything before it installs anything

stop() {
  trap '' INT TERM HUP
  kill "$1" 2>/dev/null; wait "$1" 2>/dev/null
  rm -rf "$venv/tmp"; untouched && rm -f "$venv/.installing"
  interrupted
}

pip_install() {
  tmp=$venv/tmp                         # on the disk whose space was checked, not on a small /tmp
  rm -rf "$tmp"; mkdir -p "$tmp"; : >"$venv/.installing"
  case $tmp in /*) ;; *) tmp=$here/$tmp ;; esac
  # --no-compile: Python compiles a module when it is imported; all of them now would take a minute or two
  TMPDIR=$tmp PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 "$py" -m pip install --no-compile -e ".[$extras]" >>"$log" 2>&1 &
  pid=$!
  trap 'stop "$pid"' INT TERM HUP
  ticks=0
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1; ticks=$((ticks + 1))
    if [ -t 1 ]; then printf '\r  %-60s' "$(status), $(seconds) s "
    elif [ $((ticks % 15)) -eq 0 ]; then say "  $(status), $(seconds) s"; fi
  done
  [ ! -t 1 ] || printf '\r%-64s\r' ''
  wait "$pid" && code=0 || code=$?
  trap interrupted INT TERM HUP
  rm -rf "$venv/tmp"
  return "$code"
}

explain() {
  untouched && rm -f "$venv/.installing"
  say '  the last lines of the log:' >&2
  grep -v '^WARNING: Location' "$log" | tail -n 8 | cut -c1-220 | sed 's/^/    /' >&2
  if grep -qi 'no space left on device' "$log"; then
    fail "the disk is full: about $need_gb GB are needed. Make room and run make again (log: $log)."
  elif grep -Eqi 'name resolution|max retries|connection (refused|reset|aborted|timed)|NewConnectionError|ConnectTimeout|ReadTimeout|unreachable|ProxyError|SSLError' "$log"; then
    fail "packages could not be fetched: check the network (or pip's proxy and index settings) and run make again (log: $log)."
  elif grep -q 'No matching distribution' "$log"; then
    fail "no packages for $("$py" --version 2>&1) on this machine: try another, as in: rm -r $venv; make venv PYTHON=python3.12 (log: $log)."
  fi
  fail "pip could not install wood_nb: see the lines above, and $log."
}

trap interrupted INT TERM HUP
"$py" -m pip --version >/dev/null 2>&1 || "$py" -m ensurepip >/dev/null 2>&1 || true
if is_311 "$py" && "$py" -m pip --version >/dev/null 2>&1 && [ ! -e "$venv/.installing" ]; then
  say "Bringing $venv up to date with settings.ini."
  : >"$log"
else
  make_venv
fi
pip_install || explain
rm -f "$venv/.installing"
printf '%s\n' "$here" >"$venv/.installed"
say "  installed in $(seconds) s"
