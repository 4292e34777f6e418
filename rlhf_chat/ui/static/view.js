// Keeps the address, the draft and the marks under each message in step with the view. The marks
// (version, "2/3") are put into Gradio's own button row, again after each of its redraws.
const text = window.rlhfText;
let at = 0, explained = '';
const foot = t => {
  const f = document.createElement('span'); f.className = 'foot';
  if (t.siblings > 1) {
    const step = (by, label, sign) => {
      const b = document.createElement('button'), i = t.sibling - 1 + by;
      b.type = 'button'; b.textContent = sign; b.setAttribute('aria-label', label); b.disabled = i < 0 || i >= t.siblings;
      b.onclick = () => trigger('select', {message_id: t.sibling_ids[i], value: t.sibling_ids[i], index: 0}); return b;
    };
    const n = document.createElement('span'); n.textContent = t.sibling + '/' + t.siblings; n.className = 'nth';
    f.append(step(-1, text('previous_sibling'), '\u2039'), n, step(1, text('next_sibling'), '\u203a'));
  }
  if (t.stamp) { const s = document.createElement('span'); s.className = 'stamp'; s.textContent = t.stamp; f.append(s); }
  if (t.stamp && t.id) {
    const w = document.createElement('button'); w.type = 'button'; w.className = 'words'; w.textContent = text('why_button');
    w.title = text('why_title');
    w.onclick = () => {
      const again = explained === t.id && document.querySelector('#attribution .attribution');
      explained = t.id; trigger('select', again ? {shut: 'yes', value: t.id, index: 0} : {explain: t.id, value: t.id, index: 0});
    };
    const s = document.createElement('button'); s.type = 'button'; s.className = 'star'; s.textContent = '\u2606';
    s.title = text('stars_button'); s.setAttribute('aria-label', text('stars_button'));
    s.onclick = () => trigger('select', {rate: t.id, value: t.id, index: 0}); f.append(w, s);
  }
  return f;
};
document.addEventListener('click', e => { if (e.target.closest('#attribution .shut')) trigger('select', {shut: 'yes', value: 'shut', index: 0}); });
// A box in which a message is edited opens with what was written, ready to type in.
const openBox = box => {
  const written = window.rlhfRaw(box.value), bar = box.closest('.message-row').nextElementSibling;
  box.dataset.open = 'yes'; box.setAttribute('aria-label', text('your_wording'));
  if (written !== box.value) { box.value = written; box.dispatchEvent(new Event('input', {bubbles: true})); }
  const names = [text('save_key'), text('cancel_key')];
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
    const t = turns[i], key = t ? [t.id, t.stamp, t.sibling, t.siblings].join('|') : '';
    const old = bar.querySelector('.foot');
    if (old && old.dataset.key === key) return;
    if (old) old.remove();
    if (t && (t.stamp || t.siblings > 1)) { const f = foot(t); f.dataset.key = key; bar.append(f); }
  });
  place(bot, turns);
};
// What is about one reply stands under it and says which one it is: its reasons, and what its words do.
// Gradio takes it out as it redraws the chat; the key that had the focus in it then has it again.
const panels = {};
let held = null;
document.addEventListener('pointerdown', () => { held = null; });
document.addEventListener('focusin', e => { held = e.target.closest('#why, #attribution') && e.target; });
const place = (bot, turns) => {
  const rows = [...bot.querySelectorAll('.message-row')];
  for (const id of ['why', 'attribution']) {
    const panel = panels[id] = document.getElementById(id) || panels[id], about = panel && panel.querySelector('[data-about]');
    const row = about && rows[turns.findIndex(t => t.id === about.dataset.about)], bar = row && row.nextElementSibling;
    if (!bar) continue;
    if (!about.textContent) about.textContent = text('about_reply', {reply: row.innerText.trim().replace(/\s+/g, ' ').slice(0, 80)});
    let under = bar.nextElementSibling;
    if (!under || under.className !== 'under') { under = document.createElement('div'); under.className = 'under'; bar.after(under); }
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
