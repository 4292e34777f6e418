// After "Start with this model": opens the page anew as soon as the next start answers.
() => {
  const EVERY = 500;
  if (document.querySelector('#model-start')?.checkVisibility()) return;  // nothing was started
  let gone = false;
  const ask = async () => {
    try { gone = (await fetch('loading.json', { cache: 'no-store' })).ok || gone; } catch (_) { return gone = true, setTimeout(ask, EVERY); }
    return gone ? location.reload() : setTimeout(ask, EVERY);
  };
  ask();
}
