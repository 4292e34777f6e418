// The keys of the page.

const GO = {c: 'chat', m: 'compare', l: 'learning', v: 'versions', d: 'data'};
let going = 0;

// The buttons under the last reply by place, because their names change with the language:
// copy, another reply, thumb down, thumb up. Only rows of replies carry our stamp.
const lastBar = () => {
  const stamps = [...document.querySelectorAll('#bot .foot .stamp')].filter(seen);
  return stamps.length ? stamps[stamps.length - 1].closest('.message-buttons') : null;
};
const under = at => {
  const bar = lastBar();
  const all = bar ? [...bar.querySelectorAll('.icon-button-wrapper button')].filter(seen) : [];
  const b = at === 'retry' ? (all.length > 3 ? all[1] : null) : all.at(at);
  if (!b) return false;
  b.click(); return true;
};
const sibling = which => { const bar = lastBar(), b = bar && bar.querySelector(which); if (!b) return false; b.click(); return true; };
const editLast = () => {
  const bars = [...document.querySelectorAll('#bot .message-buttons-right')].filter(seen);
  const all = bars.length ? [...bars[bars.length - 1].querySelectorAll('.icon-button-wrapper button')] : [];
  if (all.length < 2) return false;
  all[all.length - 1].click(); return true;
};
const acts = {
  '1': () => press('place-a') || vote('vote-a'), '2': () => press('place-b') || vote('vote-b'),
  '3': () => press('place-c') || vote('vote-tie'), '4': () => press('place-d') || vote('vote-bad'), '5': () => vote('vote-good'),
  '0': () => vote('vote-tie'), 'ArrowLeft': () => vote('vote-a'), 'ArrowRight': () => vote('vote-b'),
  't': () => press('rest-equal'),
  's': () => press('slightly'), 'b': () => press('much'),
  'n': next,
  '+': () => under(-1), '=': () => under(-1), '-': () => under(-2),
  'u': undo, 'r': () => under('retry'), 'c': () => say() || under(0),
  '[': () => sibling('.foot button:first-child:enabled'), ']': () => sibling('.foot .nth + button:enabled'),
  '?': () => { help(); return true; },
  'g': () => { going = Date.now(); return true; },
  '/': () => {
    if (seen(box())) { box().focus(); return true; }
    const chat = byId('tab-chat-button'); if (chat) chat.click();
    setTimeout(() => box() && box().focus(), 30); return true;
  },
};

document.addEventListener('keydown', e => {
  if (e.isComposing || dialog.open) return;
  const t = e.target, tag = t && t.tagName;
  const pressed = tag === 'BUTTON' || (tag === 'INPUT' && /^(radio|checkbox|button)$/.test(t.type));
  const typing = (tag === 'INPUT' && !pressed) || tag === 'TEXTAREA' || tag === 'SELECT' || (t && t.isContentEditable);
  if (e.repeat && e.key === 'Enter' && tag === 'BUTTON') { e.preventDefault(); return; }  // held, it would press what takes its place
  if ((e.ctrlKey || e.metaKey) && e.shiftKey && e.key.toLowerCase() === 'o') { if (press('new-chat')) e.preventDefault(); return; }
  if (e.ctrlKey || e.metaKey) {
    const key = e.key.toLowerCase();
    const act = e.shiftKey ? {s: () => byId('side').querySelector('.toggle-button').click()}[key]
      : {k: () => { window.rlhfSidebar(true); const b = document.querySelector('#search input, #search textarea'); b.focus(); b.select(); },
         '.': () => press('settings-toggle'), '/': help}[key];
    if (act) { act(); e.preventDefault(); return; }
  }
  if ((e.ctrlKey || e.metaKey) && /^Arrow(Up|Down)$/.test(e.key) && (t === box() || !typing)) {
    if (under(e.key === 'ArrowUp' ? -1 : -2)) e.preventDefault();
    return;
  }
  if (t && t.matches && t.matches('#bot .edit-textarea') && (e.key === 'Escape' || (e.key === 'Enter' && (e.ctrlKey || e.metaKey)))) {
    const bar = t.closest('.message-row').nextElementSibling, both = bar ? bar.querySelectorAll('.icon-button-wrapper button') : [];
    const b = both[e.key === 'Escape' ? 1 : 0];
    // The message box has the focus again once the other one is gone.
    const back = () => { if (t.isConnected) requestAnimationFrame(back); else if (seen(box())) box().focus(); };
    if (b) { b.click(); e.preventDefault(); back(); }
    return;
  }
  if (e.key === 'ArrowUp' && t === box() && !t.value) {
    if (editLast()) e.preventDefault();
    return;
  }
  if (e.key === 'Escape') {
    if (press('stop') || (early() ? undo() : press('stop-drafts'))) { e.preventDefault(); return; }
    document.querySelectorAll('#why .shut, #attribution .shut').forEach(b => { if (seen(b)) b.click(); });
    if (typing) t.blur();
    return;
  }
  if (typing || e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === 'Enter') {
    // Where nothing is left to vote on; a focused button keeps its own Enter, except one that was just pressed.
    const free = tag !== 'BUTTON' || t.disabled || t.getAttribute('role') === 'tab';
    const open = document.querySelector(':is(#candidates, #votes) button:is([id^=vote-], [id^=place-], #rest-equal):enabled');
    if (free && !seen(open) && !seen(byId('stop-drafts')) && next()) e.preventDefault();
    return;
  }
  if (Date.now() - going < 1500 && GO[e.key.toLowerCase()]) { going = 0; if (go(GO[e.key.toLowerCase()])) e.preventDefault(); return; }
  if (e.key.startsWith('Arrow') && tag === 'INPUT') return;  // choices move by them
  const act = acts[e.key.length === 1 ? e.key.toLowerCase() : e.key];
  if (act && act()) e.preventDefault();
});
