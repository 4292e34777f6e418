// The status bar; a click on it opens Learning. A dot on that tab: a version came since it was open.
const SEEN = 'rlhf-chat:seen-version', learning = () => document.getElementById('tab-learning-button');
let told = 0;  // the newest version that was known of
const mark = newest => {
  const tab = learning();
  if (!tab || newest === undefined) return;
  let seen = null; try { seen = localStorage.getItem(SEEN); } catch (_) {}
  const fresh = seen !== null && newest > Number(seen) && tab.getAttribute('aria-selected') !== 'true';
  if (fresh && document.hidden && newest > told && window.rlhfNotifies()) new Notification(t('version_came', {version: newest}), {body: t('version_came_text'), tag: 'rlhf-chat'});
  told = Math.max(told, newest);
  if (!fresh) { try { localStorage.setItem(SEEN, newest); } catch (_) {} }
  tab.toggleAttribute('data-new', fresh); tab.title = fresh ? t('new_version') : '';
  tab.onclick = () => setTimeout(() => mark(newest));
};
const draw = () => {
  const v = props.value || {parts: []}, line = el('div', 'status-bar ' + v.tone + (v.simulated ? ' simulated' : '')), ring = el('i', 'ring');
  line.setAttribute('role', 'group'); line.setAttribute('aria-label', t('status'));
  ring.style.setProperty('--share', v.share || 0); line.append(ring, ...v.parts.map(part => el('span', '', part)));
  line.title = v.told || v.parts.join(', ');
  line.onclick = () => { const tab = learning(); if (tab) tab.click(); };
  element.replaceChildren(line); mark(v.newest);
  window.rlhfTold = [v.told, v.situation]; document.dispatchEvent(new CustomEvent('rlhf-told', {detail: window.rlhfTold}));
};
watch('value', draw); draw();
