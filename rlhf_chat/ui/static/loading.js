// Asks for the step twice a second, and opens the app as soon as that answers instead.
const EVERY = 500, PATIENCE = 20000, READING = 6000;
const main = document.querySelector('main');
const step = document.getElementById('step'), seconds = document.getElementById('seconds');
let heard = Date.now();

const fail = words => { main.className = 'failed'; step.textContent = words; };

const show = state => {
  if (step.textContent !== state.text) step.textContent = state.text;
  seconds.textContent = state.time;
};

async function ask() {
  let answer;
  try { answer = await fetch('loading.json', { cache: 'no-store' }); } catch (_) {
    // Nobody answers: the app is about to take over, or the program has ended.
    if (Date.now() - heard > PATIENCE) fail(main.dataset.lost);
    return setTimeout(ask, EVERY);
  }
  if (!answer.ok) return location.reload();
  heard = Date.now();
  const state = await answer.json();
  if (state.failed) {
    fail(state.text);
    return state.returns && setTimeout(ask, READING);  // the model before this one comes back
  }
  main.className = '';
  show(state);
  setTimeout(ask, EVERY);
}

try { document.documentElement.className = localStorage.getItem('rlhf-chat:theme') || ''; } catch (_) {}
ask();
