// Lists that are drawn anew, and questions that take the place of a part of one.

// A list that is drawn anew keeps the keyboard: what stands where the focus was has it afterwards.
const CONTROLS = 'button, input, select, textarea, [tabindex="0"]';
window.rlhfStay = (element, draw) => {
  const all = () => [...element.querySelectorAll(CONTROLS)].filter(seen), at = all().indexOf(document.activeElement);
  draw();
  if (at < 0 || element.contains(document.activeElement)) return;
  const now = all(), one = now[Math.min(at, now.length - 1)];
  if (one) one.focus({preventScroll: true});
};

// A question in place of what stands in a box, which comes back, with the focus, once it is answered.
window.rlhfAsk = (opener, box, question, yes, no, act) => {
  const before = [...box.childNodes], end = () => { box.replaceChildren(...before); opener.focus(); };
  const keep = button(no, end);
  box.replaceChildren(el('span', 'ask', question), button(yes, () => { end(); act(); }, 'yes'), keep); keep.focus();
};
