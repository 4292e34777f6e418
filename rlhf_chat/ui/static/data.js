// The ratings, one card a row. Text from people and the model reaches the page through textContent only.
const tell = (r, what, more) => trigger('select', {do: what, id: r.id, value: r.id, index: 0, ...more});
const words = (name, text, cls) => {
  const box = el('div', 'text ' + (cls || '')), p = el('p', '', text);
  p.tabIndex = 0;  // a long text scrolls, and the keyboard must be able to
  box.append(el('span', 'by', name), p); return box;
};
const ask = (r, foot, gone) => {
  const what = t(r.whole ? 'delete_whole_chat_question' : r.kind === 'ranking' ? 'delete_ranking_question' : 'delete_vote_question');
  window.rlhfAsk(gone, foot, what, t('delete'), t('keep'), () => tell(r, 'delete'));
};
// A ranking: every reply under its place, the best first.
const ranked = r => {
  const list = el('div', 'texts');
  for (const p of r.order) {
    const box = words(p.by, p.reply, p.place ? '' : 'best');
    box.prepend(el('b', 'place', String(p.place + 1))); list.append(box);
  }
  list.classList.add('ranked'); return list;
};
const texts = r => {
  if (r.order.length) return ranked(r);
  const box = el('div', r.pair ? 'texts pair' : 'texts');
  box.append(words(r.by, r.reply, r.better === 'reply' ? 'best' : ''));
  if (r.pair) box.append(words(r.other_by, r.other, r.better === 'other' ? 'best' : ''));
  return box;
};
// Retrain without all that was found; asks first.
const without = (v, line) => {
  const b = button(t('exclude_and_retrain'), () => window.rlhfAsk(b, line, t('retrain_question'), t('retrain'), t('cancel'),
    () => trigger('select', {do: 'rebuild_all', id: '', value: '', index: 0})));
  b.title = t('retrain_all_title');
  line.append(el('span', 'found', t('rating_count', {count: v.found})), b);
};
// The mouse chooses an answer at once. The arrow keys pass others on the way: there Enter or leaving chooses.
const chosen = (choose, r) => {
  let onTheWay = false;
  const take = () => { onTheWay = false; if (choose.value !== r.value) tell(r, 'change', {value: choose.value}); };
  choose.onpointerdown = () => { onTheWay = false; };
  choose.onkeydown = e => {
    if (e.key === 'Escape') { choose.value = r.value; onTheWay = false; }
    else if (e.key !== 'Enter') onTheWay = true;
    else if (onTheWay) { e.preventDefault(); take(); }  // else it would open the menu
  };
  choose.onkeyup = e => { if (e.key === 'Enter' && onTheWay) take(); };  // of an open menu only this is heard
  choose.onchange = () => { if (!onTheWay) take(); };
  choose.onblur = () => { if (onTheWay) take(); };
};
const card = r => {
  const li = el('li', 'row'), head = el('div', 'head'), foot = el('div', 'foot');
  head.append(el('b', 'answer ' + r.value, r.answer), el('span', 'at', r.at));
  if (r.rater) head.append(el('span', 'rater', r.rater));
  if (r.reason) head.append(el('span', '', r.reason));
  if (r.comment) head.append(el('span', 'comment', r.comment));
  const choose = el('select'); choose.setAttribute('aria-label', t('change_rating'));
  for (const [value, text] of r.choices) { const o = el('option', '', text); o.value = value; o.selected = value === r.value; choose.append(o); }
  if (!r.choices.some(c => c[0] === r.value)) { const o = el('option', '', r.answer); o.selected = true; o.disabled = true; choose.prepend(o); }
  chosen(choose, r);
  const back = button(t('withdraw'), () => tell(r, 'withdraw')), exclude = button(t('exclude_and_retrain'), () => tell(r, 'rebuild'));
  const gone = button(t('delete_opener'), () => ask(r, foot, gone), 'delete'); exclude.title = t('retrain_title');
  if (r.choices.length > 1) foot.append(choose);  // an order or a correction has no other answer
  foot.append(back, exclude, gone);
  li.append(head, el('p', 'prompt', r.prompt), texts(r), foot); return li;
};
const paint = () => {
  const v = props.value || {rows: [], counts: []}, parts = [];
  if (v.counts.length) {
    const line = el('p', 'counts');
    for (const [name, n] of v.counts) { const s = el('span'); s.append(el('span', '', name), el('b', '', String(n))); line.append(s); }
    parts.push(line);
  }
  if (v.filtered && v.found) { const line = el('p', 'foot these'); without(v, line); parts.push(line); }
  if (!v.rows.length) {
    const none = el('div', 'none');
    none.append(el('h3', '', t(v.filtered ? 'nothing_matches' : 'nothing_here')),
      el('p', '', t(v.filtered ? 'try_other' : 'data_hint')));
    if (!v.filtered) none.append(el('p', '', t('import_hint')));
    parts.push(none);
  }
  const list = el('ol', 'rows'); for (const r of v.rows) list.append(card(r));
  parts.push(list); element.replaceChildren(...parts);
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw();
