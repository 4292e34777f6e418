// The timeline of versions, newest first down to the base, and the ranking by blind votes.
// Text reaches the page through textContent only.
const tell = (v, what, more) => trigger('select', {do: what, version: v.version, value: v.name, index: 0, ...more});
const act = (v, what, text, label, cls) => button(text, () => tell(v, what), cls, label);
// Win rate over the base: a dot, its interval, and the middle line where nothing is better.
const rate = v => {
  const box = el('div', 'rate'), track = el('span', 'track');
  track.setAttribute('role', 'img'); track.setAttribute('aria-label', v.rate_label);
  const put = (cls, left, width) => { const i = el('i', cls); i.style.left = left + '%'; if (width !== undefined) i.style.width = width + '%'; track.append(i); };
  put('mid', 50);
  if (v.votes) { put('range', 100 * v.low, 100 * (v.high - v.low)); put('dot', 100 * v.rate); }
  box.append(track, el('span', 'told', v.told)); return box;
};
// Back from a question or a form, to the button that opened it.
const back = label => {
  draw();
  const opener = [...element.querySelectorAll('button')].find(b => b.getAttribute('aria-label') === label);
  if (opener) opener.focus();
};
const ask = (v, foot) => {
  const yes = act(v, 'delete', t('delete'), t('delete_version_label', {version: v.label}), 'yes'), no = button(t('keep'), () => back(t('delete_version_opener', {version: v.label})), '', t('keep_version', {version: v.label}));
  yes.onclick = () => { tell(v, 'delete'); draw(); };
  foot.replaceChildren(el('span', 'ask', t('delete_version_question', {version: v.label})), yes, no); no.focus();
};
const edit = (v, card) => {
  const form = el('form', 'edit'), name = el('input'), note = el('textarea'), close = () => back(t('name_and_notes_of', {version: v.label}));
  name.value = v.given; name.maxLength = 60; name.placeholder = t('name'); name.setAttribute('aria-label', t('name_of', {version: v.label}));
  note.value = v.remark; note.maxLength = 2000; note.rows = 2; note.placeholder = t('notes'); note.setAttribute('aria-label', t('notes_on', {version: v.label}));
  const keep = el('button', 'main', t('save')); keep.type = 'submit';
  const drop = button(t('cancel'), close);
  form.onsubmit = e => { e.preventDefault(); tell(v, 'describe', {given: name.value, remark: note.value}); close(); };
  form.onkeydown = e => { e.stopPropagation(); if (e.key === 'Escape' && !e.isComposing) close(); };
  const row = el('div', 'foot'); row.append(keep, drop); form.append(name, note, row); card.replaceChildren(form); name.focus();
};
// For which program a version is exported; each choice says what the folder is for.
const EXPORTS = ['peft', 'merged', 'gguf-f16', 'gguf-q8_0', 'gguf-q4_0'];
const take = (v, foot) => {
  const form = el('form', 'export'), choice = el('select'), close = () => back(t('export_of', {version: v.label}));
  choice.setAttribute('aria-label', t('export_choice', {version: v.label}));
  const told = {'peft': t('export_peft'), 'merged': t('export_merged'), 'gguf-f16': t('export_f16'), 'gguf-q8_0': t('export_q8'), 'gguf-q4_0': t('export_q4')};
  for (const name of EXPORTS) { const o = el('option', '', told[name]); o.value = name; choice.append(o); }
  const go = el('button', 'main', t('export')); go.type = 'submit';
  const drop = button(t('cancel'), close);
  form.onsubmit = e => { e.preventDefault(); tell(v, 'export', {given: choice.value}); close(); };
  form.onkeydown = e => { e.stopPropagation(); if (e.key === 'Escape' && !e.isComposing) close(); };
  form.append(choice, go, drop); foot.replaceChildren(form); choice.focus();
};
const card = v => {
  const li = el('li', 'version' + (v.live ? ' live' : '')), box = el('div', 'card'), head = el('div', 'head'), foot = el('div', 'foot');
  head.append(el('b', 'name', v.label)); if (v.given) head.append(el('span', 'given', v.given));
  if (v.live) head.append(el('span', 'badge', t('live')));
  head.append(el('span', 'tier ' + v.tier, v.standing));
  if (v.made_for) head.append(el('span', 'badge simulated', v.made_for));
  box.append(head, el('div', 'origin', v.origin));
  if (v.version) box.append(rate(v));
  if (v.note) box.append(el('p', 'why', v.note));
  if (v.remark) box.append(el('p', 'remark', v.remark));
  if (!v.live) foot.append(act(v, 'live', t('make_live'), t('make_live_label', {version: v.label})));
  foot.append(act(v, 'chat', t('chat'), t('chat_with', {version: v.label})), act(v, 'duel', t('duel'), t('duel_for', {version: v.label})));
  foot.append(button(t('name_and_notes'), () => edit(v, box), '', t('name_and_notes_of', {version: v.label})));
  if (v.version) foot.append(button(t('export_opener'), () => take(v, foot), '', t('export_of', {version: v.label})));
  if (!v.live && v.version) foot.append(button(t('delete_opener'), () => ask(v, foot), 'delete', t('delete_version_opener', {version: v.label})));
  box.append(foot); li.append(box); return li;
};
const ranking = rows => {
  const box = el('section', 'ranking'); box.append(el('h3', '', t('ranking')));
  const table = el('table'), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const name of ['', t('version'), t('won'), t('tied'), t('lost'), t('over_base')]) head.append(el('th', '', name));
  rows.forEach((v, i) => {
    const row = body.insertRow(); if (v.live) row.className = 'live';
    for (const [cls, text] of [['num', i + 1], ['name', v.label], ['num', v.won], ['num', v.tied], ['num', v.lost], ['num', v.expected]]) row.append(el('td', cls, String(text)));
  });
  box.append(table, el('p', 'quiet', t('ranking_note')));
  return box;
};
const paint = () => {
  const v = props.value || {}, line = el('ol', 'timeline'), parts = [];
  if (v.advice) { const p = el('p', 'advice', v.advice); p.setAttribute('role', 'alert'); parts.push(p); }
  for (const one of v.versions || []) line.append(card(one));
  const two = el('div', 'two'); two.append(line);
  if ((v.ranking || []).length) two.append(ranking(v.ranking));
  parts.push(two); element.replaceChildren(...parts);
};
const draw = () => window.rlhfStay(element, paint);
// A poll must not tear a half-written note or a question out of somebody's hands.
watch('value', () => { if (!element.querySelector('form, .ask')) draw(); });
draw();
