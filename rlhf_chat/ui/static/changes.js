// Asks whether anything changed, every three seconds and each second while Learning is open, and has the page
// drawn again if so, and once more the next time: an answer may be lost, or come after that of a later one.
// Nothing is asked while the page is hidden, unless it is to tell when a version comes, or keeps a simulation going.
const SLOW = 3000, FAST = 1000, HIDDEN = 20000;
let seen = null, again = false, timer = 0;
const open = () => {
  const tab = document.querySelector('#tabs [role=tab][aria-selected=true]');
  return tab ? tab.id.replace(/^tab-|-button$/g, '') : '';
};
const ask = async () => {
  clearTimeout(timer);
  if (document.hidden && !window.rlhfNotifies() && !document.querySelector('.status-bar.simulated')) return;
  let now = '';
  try { now = await (await fetch('changes')).text(); } catch (_) {}  // Gradio then says that the app is gone
  if (now !== seen || again) {
    again = now !== seen; seen = now;
    trigger('select', {value: open(), index: 0});
    if (open() === 'learning') trigger('input');
  }
  clearTimeout(timer);
  timer = setTimeout(ask, document.hidden ? HIDDEN : open() === 'learning' ? FAST : SLOW);
};
document.addEventListener('visibilitychange', ask);
document.addEventListener('click', e => {
  if (e.target.closest('#tab-learning-button')) { clearTimeout(timer); timer = setTimeout(ask, FAST); }
});
ask();
