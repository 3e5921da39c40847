"""Text from outside (names of files, cells of tables, what others wrote) made safe to print"""

import re

# control characters but for the end of a line and the tab; marks that turn the direction of text; characters without width
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]")


def visible(text: str) -> str:
    r"The text with characters that a terminal obeys, or that nobody sees, written out: `\x1b`, `\u202e`."
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)
