// Draws {text, tone}, and {then} instead once the status bar no longer tells of the moment {during}. An empty one
// keeps its line, so that the page does not jump when it fills.
const draw = () => {
  const v = props.value || {};
  element.textContent = v.text || '';
  element.className = 'status-message ' + (v.tone || 'quiet');
};
const pass = told => { const v = props.value || {}; if (v.during && !told.includes(v.during)) element.textContent = v.then || ''; };
element.setAttribute('role', 'status');
document.addEventListener('rlhf-told', e => pass(e.detail));
watch('value', draw); draw(); if (window.rlhfTold) pass(window.rlhfTold);
