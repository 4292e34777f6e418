// Draws {text, tone}. An empty one keeps its line, so that the page does not jump when it fills.
const draw = () => {
  const v = props.value || {};
  element.textContent = v.text || '';
  element.className = 'status-message ' + (v.tone || 'quiet');
};
element.setAttribute('role', 'status');
watch('value', draw); draw();
