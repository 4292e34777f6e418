// Asks whether anything changed, every three seconds and each second while Learning is open, and has the page
// drawn again if so, and once more the next time: an answer may be lost, or come after that of a later one.
// What is done on the page shows soon after a click or key. Nothing is asked while the page is hidden, unless it is to
// tell when a version comes, or keeps a simulation going.
const SOON = 400, SLOW = 3000, FAST = 1000, HIDDEN = 20000;
let seen = null, again = false, timer = 0, due = 0;
const within = ms => {
  if (due > Date.now() && due <= Date.now() + ms) return;
  clearTimeout(timer);
  due = Date.now() + ms;
  timer = setTimeout(ask, ms);
};
const open = () => {
  const tab = document.querySelector('#tabs [role=tab][aria-selected=true]');
  return tab ? tab.id.replace(/^tab-|-button$/g, '') : '';
};
const ask = async () => {
  clearTimeout(timer);
  due = 0;
  if (document.hidden && !window.rlhfNotifies() && !document.querySelector('.status-bar.simulated')) return;
  let now = '';
  try { now = await (await fetch('changes')).text(); } catch (_) {}  // Gradio then says that the app is gone
  if (now !== seen || again) {
    again = now !== seen; seen = now;
    trigger('select', {value: open(), index: 0});
    if (open() === 'learning') trigger('input');
  }
  within(document.hidden ? HIDDEN : open() === 'learning' ? FAST : SLOW);
};
document.addEventListener('visibilitychange', ask);
document.addEventListener('click', () => within(SOON));
document.addEventListener('keyup', e => { if (e.ctrlKey || !e.target.closest('input, textarea')) within(SOON); });
ask();
