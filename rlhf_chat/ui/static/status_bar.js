// The status bar; a click on it opens Learning. A dot on that tab: a version came since it was open.
const SEEN = 'rlhf-chat:seen-version', learning = () => document.getElementById('tab-learning-button');
const mark = newest => {
  const tab = learning();
  if (!tab || newest === undefined) return;
  let seen = null; try { seen = localStorage.getItem(SEEN); } catch (_) {}
  const fresh = seen !== null && newest > Number(seen) && tab.getAttribute('aria-selected') !== 'true';
  if (!fresh) { try { localStorage.setItem(SEEN, newest); } catch (_) {} }
  tab.toggleAttribute('data-new', fresh); tab.title = fresh ? window.rlhfText('new_version') : '';
  tab.onclick = () => setTimeout(() => mark(newest));
};
const draw = () => {
  const v = props.value || {parts: []}, line = document.createElement('div');
  line.className = 'status-bar ' + v.tone; line.setAttribute('role', 'group'); line.setAttribute('aria-label', window.rlhfText('status'));
  const ring = document.createElement('i'); ring.className = 'ring'; ring.style.setProperty('--share', v.share || 0); line.append(ring);
  for (const part of v.parts) { const s = document.createElement('span'); s.textContent = part; line.append(s); }
  line.title = v.told || v.parts.join(', ');
  line.onclick = () => { const tab = learning(); if (tab) tab.click(); };
  element.replaceChildren(line); mark(v.newest);
  window.rlhfTold = [v.told, v.situation]; document.dispatchEvent(new CustomEvent('rlhf-told', {detail: window.rlhfTold}));
};
watch('value', draw); draw();
