// Asks for the next answers: when Compare is first seen, and once for each `after`, which names what was
// answered. An empty one means that the last of them is open again.
let last = '', begun = false, ready = false, due = 0;
// Gradio puts the parts of a tab on the page one by one when it is first opened, and a part that comes while
// updates arrive may be left with an old one: so nothing is asked for until all of them are there.
const PARTS = ['asked', 'new-drafts', 'draft-a', 'draft-b', 'vote-a', 'vote-b', 'asking', 'vote-tie', 'vote-bad', 'vote-good', 'verdict', 'count', 'sampled'];
const next = () => {
  begun = true;
  if (ready) trigger('select', {value: 'next', index: 0});
  else if (PARTS.some(id => !document.getElementById(id))) setTimeout(next, 50);
  else setTimeout(() => { ready = true; next(); }, 150);
};
// Until then a click asks for nothing either: the first answers come anyway.
document.addEventListener('click', e => {
  if (!ready && e.target.closest && e.target.closest('#new-drafts')) { e.stopImmediatePropagation(); e.preventDefault(); }
}, true);
// Not before everything that came with `after` is on the page, or what comes late would be drawn over the
// next set: Gradio calls rlhfNext then (see `AFTERWARDS`); the timer is for what does not.
window.rlhfNext = () => { if (due) { clearTimeout(due); due = 0; next(); } };
const draw = () => {
  const after = (props.value || {}).after || '';
  if (after === last) return;
  last = after;
  clearTimeout(due);
  due = after ? setTimeout(window.rlhfNext, 1000) : 0;
};
const whenSeen = () => {
  const place = document.getElementById('candidates');
  if (!place) return setTimeout(whenSeen, 100);
  new IntersectionObserver((entries, observer) => {
    if (!entries.some(e => e.isIntersecting)) return;
    observer.disconnect();
    if (!begun && !due) next();
  }).observe(place);
};
watch('value', draw); draw(); whenSeen();
