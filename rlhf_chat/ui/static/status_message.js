// Draws {text, tone}, and {then} instead once the status bar, after it told of the moment {during}, tells of another
// one; the bar may have been asked before that moment came. An empty one keeps its line, so that the page does not
// jump when it fills.
let met = 0;  // times that the bar told of something since this note came: every change is told twice, and one may have been asked before
const draw = () => {
  const v = props.value || {};
  element.textContent = v.text || '';
  element.className = 'status-message ' + (v.tone || 'quiet');
  met = 0;
};
const pass = told => {
  const v = props.value || {};
  if (!v.during) return;
  if (told.includes(v.during)) met = 1;
  else if (++met > 1) element.textContent = v.then || '';
};
element.setAttribute('role', 'status');
document.addEventListener('rlhf-told', e => pass(e.detail));
watch('value', draw); draw(); if (window.rlhfTold && props.value && props.value.during) { met = 1; pass(window.rlhfTold); }
