// Votes on Compare: by key, by a stroke of the finger, in an order; never one too many.

// After a vote the next answers come by themselves: for half a second keys vote on nothing, and N, by
// habit, does not skip them. The second half of a double click falls on whatever appears there by then.
let votedAt = 0, clicked = {id: '', at: 0};
const fresh = ms => Date.now() - votedAt < ms;
const vote = id => {
  if (fresh(500) || !press(id)) return false;
  votedAt = Date.now(); return true;
};
document.addEventListener('click', e => {
  const b = e.isTrusted && e.target.closest && e.target.closest('button');
  if (!b) return;
  const voting = /^(vote|place)-|^rest-equal$/, after = /^(vote-.*|slightly|much|undo)$/;
  const again = Date.now() - clicked.at < 500 && (b.id === clicked.id || (voting.test(clicked.id) && after.test(b.id)));
  if (again && /^(vote|place)-|^(rest-equal|slightly|much|undo|new-drafts)$/.test(b.id)) { e.stopImmediatePropagation(); e.preventDefault(); return; }
  if (/^vote-/.test(b.id)) votedAt = Date.now();
  if (voting.test(b.id) || b.id === 'new-drafts') clicked = {id: b.id, at: Date.now()};
}, true);
// The order of several drafts grows here: the server's word of it comes too late for quick keys. One
// id until Undo, and nothing more after "the rest": however often keys are pressed, one ranking.
let ranking = {};
window.rlhfPlace = ([letter, set, , , ...rest]) => {
  if (ranking.set !== set) ranking = {set, order: '', id: crypto.randomUUID(), over: false};
  const order = ranking.order;
  if (!letter) ranking.over = true;
  if (!ranking.over && !order.includes(letter)) ranking.order += letter;
  return [ranking.over ? '' : letter, set, ranking.id, order, ...rest];
};
window.rlhfUnplace = inputs => { ranking = {}; return inputs; };
const say = () => { const b = document.querySelector('#because textarea'); if (!seen(b)) return false; b.focus(); return true; };
// A vote on answers that are not complete yet waits for them; Esc takes it back, N does not lose it.
const early = () => seen(byId('stop-drafts')) && document.querySelector('#candidates button.primary[id^=vote-], #votes button.primary[id^=vote-]');
// A button that is made visible comes into the page a moment after what else was drawn with it.
const soon = (id, until) => press(id) || (Date.now() < until && setTimeout(() => soon(id, until), 50), true);
const undo = () => press('undo') || (!!early() && soon('undo', Date.now() + 1000));
const next = () => {
  const typed = seen(document.querySelector('#prompt textarea'));
  return early() || (fresh(1000) && !typed) ? false : press('new-drafts');
};

// Compare with a finger: a stroke to the left is a vote for A, to the right for B, as the arrow keys are.
let stroke = null;
document.addEventListener('touchstart', e => {
  const one = e.touches.length === 1 && e.target.closest('#candidates') && !e.target.closest('button, pre, table');
  stroke = one ? {x: e.touches[0].clientX, y: e.touches[0].clientY, at: Date.now()} : null;
}, {passive: true});
document.addEventListener('touchend', e => {
  if (!stroke) return;
  const x = e.changedTouches[0].clientX - stroke.x, y = e.changedTouches[0].clientY - stroke.y, quick = Date.now() - stroke.at < 600;
  stroke = null;
  if (quick && Math.abs(x) > 80 && Math.abs(x) > 2 * Math.abs(y)) vote(x < 0 ? 'vote-a' : 'vote-b');
}, {passive: true});
