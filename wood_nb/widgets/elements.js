// An element, with text if it is given, at the end of another one.
export const make = (kind, parent, text) => {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;      // never innerHTML: names are only names
  parent?.append(made);
  return made;
};
