// Draws {text, tone}, and {then} instead once the status bar tells of another moment than {during}. What the bar tells
// within the first seconds may have been asked before that moment came, unless it has told of it. An empty one keeps
// its line, so that the page does not jump when it fills.
const ASKED_ANEW = 4000;
let met = false, timer = 0;
const check = () => {
  const v = props.value || {};
  if (!v.during || !window.rlhfTold) return;
  if (window.rlhfTold.includes(v.during)) met = true;
  else if (met) element.textContent = v.then || '';
};
const draw = () => {
  const v = props.value || {};
  element.textContent = v.text || '';
  element.className = 'status-message ' + (v.tone || 'quiet');
  met = false; clearTimeout(timer);
  if (v.during) timer = setTimeout(() => { met = true; check(); }, ASKED_ANEW);
  check();
};
element.setAttribute('role', 'status');
document.addEventListener('rlhf-told', check);
watch('value', draw); draw();
