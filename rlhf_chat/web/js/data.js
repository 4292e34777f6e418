// What was said, one card a row. Text reaches the page through textContent only.
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
const tell = (r, what, more) => trigger('select', {do: what, id: r.id, value: r.id, index: 0, ...more});
const words = (name, text, cls) => {
  const box = el('div', 'text ' + (cls || '')), p = el('p', '', text);
  p.tabIndex = 0;  // a long text scrolls, and the keyboard must be able to
  box.append(el('span', 'by', name), p); return box;
};
const ask = (r, foot) => {
  const what = r.kind === 'vote' ? 'Delete this prompt, both drafts and your vote?' : 'Delete the whole conversation and its ratings?';
  const yes = el('button', 'yes', 'Delete'), no = el('button', '', 'Keep');
  yes.type = no.type = 'button'; yes.setAttribute('aria-label', 'Delete for good'); no.setAttribute('aria-label', 'Keep it');
  yes.onclick = () => tell(r, 'delete'); no.onclick = draw;
  foot.replaceChildren(el('span', 'ask', what), yes, no); no.focus();
};
const card = r => {
  const li = el('li', 'row'), head = el('div', 'head'), foot = el('div', 'foot');
  head.append(el('b', 'answer ' + r.said, r.answer), el('span', 'at', r.at));
  if (r.rater) head.append(el('span', 'rater', r.rater));
  if (r.reason) head.append(el('span', 'reason', r.reason));
  const two = r.kind === 'vote' || r.kind === 'edit', texts = el('div', two ? 'texts pair' : 'texts');
  texts.append(words(r.by, r.reply, r.said === 'a' ? 'best' : ''));
  if (two) texts.append(words(r.other_by, r.other, r.said === 'b' || r.kind === 'edit' ? 'best' : ''));
  const choose = el('select'); choose.setAttribute('aria-label', 'Change the answer');
  for (const [value, text] of r.choices) { const o = el('option', '', text); o.value = value; o.selected = value === r.said; choose.append(o); }
  if (!r.choices.some(c => c[0] === r.said)) { const o = el('option', '', r.answer); o.selected = true; o.disabled = true; choose.prepend(o); }
  choose.onchange = () => tell(r, 'change', {said: choose.value});
  const back = el('button', '', 'Take back'), without = el('button', '', 'Learn without it'), gone = el('button', 'delete', 'Delete\u2026');
  back.type = without.type = gone.type = 'button'; without.onclick = () => tell(r, 'rebuild');
  without.title = 'What if you had not said this: learns once more from the base, and the result goes through the gate'; back.onclick = () => tell(r, 'withdraw'); gone.onclick = () => ask(r, foot);
  foot.append(choose, back, without, gone);
  li.append(head, el('p', 'prompt', r.prompt), texts, foot); return li;
};
const draw = () => {
  const v = props.value || {rows: [], counts: []}, parts = [];
  if (v.counts.length) {
    const line = el('p', 'counts');
    for (const [name, n] of v.counts) { const s = el('span'); s.append(el('b', '', String(n)), ' ' + name); line.append(s); }
    parts.push(line);
  }
  if (!v.rows.length) {
    const none = el('div', 'none');
    none.append(el('h3', '', v.filtered ? 'Nothing matches.' : 'Nothing here yet.'),
      el('p', '', v.filtered ? 'Try other words, or show every kind of answer.' : 'Give a reply a thumb in Chat, or vote on two drafts in Compare. What you said can then be changed, taken back or taken away here.'));
    parts.push(none);
  }
  const list = el('ol', 'rows'); for (const r of v.rows) list.append(card(r));
  parts.push(list); element.replaceChildren(...parts);
};
watch('value', draw); draw();
