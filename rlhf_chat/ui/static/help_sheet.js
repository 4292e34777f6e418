// The help sheet: keys, the words that the app uses, and how it learns. SHORTCUTS, TERMS and STEPS are written
// in by page_scripts.py.
const dialog = el('dialog'), title = el('h2', '', text('help')), keys = el('dl', 'keys'), words = el('dl'), steps = el('ol');
dialog.id = 'shortcuts'; dialog.setAttribute('aria-label', text('help'));
title.tabIndex = -1; title.autofocus = true;  // else Close takes the focus, and a low window opens at its end
for (const [key, what] of SHORTCUTS) {
  const dt = el('dt');
  for (const part of (key.startsWith('key_') ? text(key) : key).split('  ')) dt.append(el('kbd', '', part), ' ');
  keys.append(dt, el('dd', '', text(what)));
}
for (const name of TERMS) words.append(el('dt', '', text(`term_${name}`)), el('dd', '', text(`means_${name}`)));
for (const step of STEPS) steps.append(el('li', '', text(step)));
dialog.append(title, el('h3', '', text('how_it_learns')), steps, el('h3', '', text('words')), words, el('h3', 'keys', text('keys')), keys, button(text('close'), () => dialog.close()));
dialog.onclick = e => { if (e.target === dialog) dialog.close(); };
const help = window.rlhfHelp = () => { if (!dialog.isConnected) (document.querySelector('.gradio-container') || document.body).append(dialog); dialog.open ? dialog.close() : dialog.showModal(); dialog.scrollTop = 0; };
