// The sidebar, the panel of settings and the screens.

// On a phone and on a small tablet Gradio's sidebar covers the page, so there it starts closed.
const narrow = matchMedia('(max-width: 768px)');
window.rlhfNarrow = () => narrow.matches;
window.rlhfSidebar = open => {
  const side = byId('side');
  if (side && side.classList.contains('open') !== open) side.querySelector('.toggle-button').click();
};

// The panel of settings: open or shut is remembered, except on a phone, where it covers the chat.
const PANEL = 'rlhf-chat:panel';
window.rlhfPanel = open => {
  const now = document.body.classList.toggle('settings-open', open);
  const toggle = byId('settings-toggle'); if (toggle) toggle.setAttribute('aria-expanded', String(now));
  store(PANEL, now && window.innerWidth >= 1000 ? '1' : '');
  return true;
};
const go = name => { const t = byId(`tab-${name}-button`) || [...document.querySelectorAll('#tabs [role=tab]')].find(b => b.id.includes(name) || b.dataset.tabId === name); if (t) t.click(); return Boolean(t); };

whenReady(() => {
  if (narrow.matches) window.rlhfSidebar(false);
  if (stored(PANEL) && window.innerWidth >= 1000) window.rlhfPanel(true);
});

// Charts are read from the table below them, which has their numbers.
const charts = () => {
  const plots = byId('plots');
  if (!plots) return setTimeout(charts, 500);
  const mute = () => plots.querySelectorAll('svg:not([aria-hidden])').forEach(one => one.setAttribute('aria-hidden', 'true'));
  new MutationObserver(mute).observe(plots, {childList: true, subtree: true}); mute();
};
charts();

// An app window begins where it was left.
const WHERE = 'rlhf-chat:conversation';
window.rlhfAt = id => store(WHERE, id);
if (matchMedia('(display-mode: standalone)').matches && !location.search && stored(WHERE))
  location.replace('?c=' + encodeURIComponent(stored(WHERE)));
