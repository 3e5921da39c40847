// An element, with text if it is given, at the end of another one.
export const make = (kind, parent, text) => {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;      // never innerHTML: names are only names
  parent?.append(made);
  return made;
};

// An element with a class.
export const element = (kind, className, parent, text) => {
  const made = make(kind, parent, text);
  if (className) made.className = className;
  return made;
};

// Keys are a widget's while it has the focus. JupyterLab asks whatever lies around the focused element; Notebook 7 asks that element first,
// before anybody else sees the key: d twice would delete the cell.
export const ownKeys = root => {
  const own = element => { element.dataset.lmSuppressShortcuts = 'true'; };
  own(root);
  root.addEventListener('focusin', event => own(event.target));
};
