// The status bar; a click on it opens Learning.
const draw = () => {
  const v = props.value || {parts: []}, line = document.createElement('div');
  line.className = 'status-bar ' + v.tone; line.setAttribute('role', 'group'); line.setAttribute('aria-label', window.rlhfText('status'));
  const dot = document.createElement('i'); dot.className = 'dot'; line.append(dot);
  for (const part of v.parts) { const s = document.createElement('span'); s.textContent = part; line.append(s); }
  line.title = v.parts.join(', ');
  line.onclick = () => { const tab = document.getElementById('tab-learning-button'); if (tab) tab.click(); };
  element.replaceChildren(line);
};
watch('value', draw); draw();
