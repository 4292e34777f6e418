// Keeps the address, the draft and the marks under each message in step with the view. The marks
// (version, "2/3") are put into Gradio's own button row, again after each of its redraws.
let at = 0, explained = '';
const foot = turn => {
  const f = el('span', 'foot'), show = id => trigger('select', {message_id: id, value: id, index: 0});
  if (turn.siblings > 1) {
    const step = (by, label, icon) => {
      const i = turn.sibling - 1 + by, b = button('', null, icon, label);
      b.disabled = i < 0 || i >= turn.siblings; b.onclick = () => show(turn.sibling_ids[i]); return b;
    };
    f.append(step(-1, t('previous_sibling'), 'lucide-chevron-left'), el('span', 'nth', turn.sibling + '/' + turn.siblings), step(1, t('next_sibling'), 'lucide-chevron-right'));
  }
  if (turn.stamp) f.append(el('span', 'stamp', turn.stamp));
  if (turn.stamp && turn.id) {
    const why = button(t('why_button'), () => {
      const again = explained === turn.id && document.querySelector('#attribution .attribution');
      explained = turn.id; trigger('select', {...(again ? {shut: 'yes'} : {explain: turn.id}), value: turn.id, index: 0});
    }, 'words');
    const star = button('', () => trigger('select', {rate: turn.id, value: turn.id, index: 0}), 'star lucide-star', t('stars_button'));
    why.title = t('why_title'); star.title = t('stars_button'); f.append(why, star);
  }
  return f;
};
document.addEventListener('click', e => { if (e.target.closest('#attribution .shut')) trigger('select', {shut: 'yes', value: 'shut', index: 0}); });
// A box in which a message is edited opens with what was written, ready to type in.
const openBox = box => {
  const written = window.rlhfRaw(box.value), bar = box.closest('.message-row').nextElementSibling;
  box.dataset.open = 'yes'; box.setAttribute('aria-label', t('your_wording'));
  if (written !== box.value) { box.value = written; box.dispatchEvent(new Event('input', {bubbles: true})); }
  const names = [t('save_key'), t('cancel_key')];
  [...bar.querySelectorAll('.icon-button-wrapper button')].slice(0, 2).forEach((b, i) => { b.title = names[i]; });
  box.focus(); box.setSelectionRange(written.length, written.length); box.scrollIntoView({block: 'nearest'});
};
const mark = () => {
  at = 0;
  const turns = (props.value || {}).turns || [], bot = document.getElementById('bot');
  if (!bot) return;
  bot.querySelectorAll('.edit-textarea:not([data-open])').forEach(openBox);
  bot.querySelectorAll('[data-testid][aria-label]').forEach(e => {
    const name = e.getAttribute('aria-label'), read = window.rlhfRaw(name);
    if (read !== name) e.setAttribute('aria-label', read);
  });
  bot.querySelectorAll('pre:not([data-language]) > code[class^=language-]').forEach(e => { e.parentElement.dataset.language = e.className.slice(9); });
  [...bot.querySelectorAll('.message-row')].forEach((row, i) => {
    const bar = row.nextElementSibling;
    if (!bar || !bar.classList.contains('message-buttons')) return;
    const turn = turns[i], key = turn ? [turn.id, turn.stamp, turn.sibling, turn.siblings].join('|') : '';
    const old = bar.querySelector('.foot');
    if (old && old.dataset.key === key) return;
    if (old) old.remove();
    if (turn && (turn.stamp || turn.siblings > 1)) { const f = foot(turn); f.dataset.key = key; bar.append(f); }
  });
  place(bot, turns);
};
// What is about one reply stands under it and says which one it is: its reasons, and what its words do.
// Gradio takes it out as it redraws the chat; the key that had the focus in it then has it again.
const spoken = row => { const r = row.cloneNode(true); r.querySelectorAll('.katex-html').forEach(e => e.remove()); r.querySelectorAll('.katex-mathml annotation').forEach(e => e.closest('.katex-mathml').replaceWith(e.textContent)); return r.textContent; };
const short = (words, most) => words.length > most ? words.slice(0, most).trimEnd() + '\u2026' : words;
const panels = {};
let held = null;
document.addEventListener('pointerdown', () => { held = null; });
document.addEventListener('focusin', e => { held = e.target.closest('#why, #attribution') && e.target; });
const place = (bot, turns) => {
  const rows = [...bot.querySelectorAll('.message-row')];
  for (const id of ['why', 'attribution']) {
    const panel = panels[id] = document.getElementById(id) || panels[id], about = panel && panel.querySelector('[data-about]');
    const row = about && rows[turns.findIndex(turn => turn.id === about.dataset.about)], bar = row && row.nextElementSibling;
    if (!bar) continue;
    if (!about.textContent) about.textContent = t('about_reply', {reply: short(spoken(row).trim().replace(/\s+/g, ' '), 80)});
    let under = bar.nextElementSibling;
    if (!under || under.className !== 'under') { under = el('div', 'under'); bar.after(under); }
    if (panel.parentElement !== under) {
      under.append(panel); panel.scrollIntoView({block: 'nearest'});
      if (held && panel.contains(held) && document.activeElement === document.body) held.focus();
    }
  }
  bot.querySelectorAll('.under:empty').forEach(e => e.remove());
};
const soon = () => { if (!at) at = setTimeout(mark, 30); };
const draw = () => {
  const v = props.value || {}, here = new URLSearchParams(location.search).get('c') || '';
  if (window.rlhfLoaded && (v.conversation || '') !== here)
    history.replaceState(null, '', v.conversation ? '?c=' + encodeURIComponent(v.conversation) : location.pathname);
  if (window.rlhfLoaded && window.rlhfAt) window.rlhfAt(v.conversation || '');
  document.body.classList.toggle('talking', Boolean(v.conversation));
  if (v.sent && window.rlhfDraft) window.rlhfDraft.sent();
  soon();
};
const watchBot = () => {
  const parts = ['bot', 'why', 'attribution'].map(id => document.getElementById(id));
  if (!parts.every(Boolean)) return setTimeout(watchBot, 100);
  const changes = new MutationObserver(soon);
  for (const e of parts) changes.observe(e, {childList: true, subtree: true});
  soon();
};
// The first value is the empty one of the layout; only the server's answer to the load may change the address.
watch('value', () => { window.rlhfLoaded = true; draw(); });
draw(); watchBot();
