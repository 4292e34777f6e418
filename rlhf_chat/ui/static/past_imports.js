// The files that were taken in last; what each of them brought can be sent back, asked first.
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
const row = r => {
  const li = el('li'), undo = el('button', '', 'Undo the import'); undo.type = 'button';
  undo.onclick = () => window.rlhfAsk(undo, li, 'Delete all that this file brought, words and ratings?', 'Undo', 'Keep',
    () => trigger('select', {do: 'undo', origin: r.origin, value: r.origin, index: 0}));
  li.append(el('span', '', r.told), undo); return li;
};
const paint = () => {
  const rows = (props.value || {}).rows || [], list = el('ul');
  list.append(...rows.map(row)); element.replaceChildren(...(rows.length ? [list] : []));
};
const draw = () => window.rlhfStay(element, paint);
// The list is sent again after every act on this screen: not out of a question that stands.
watch('value', () => { if (!element.querySelector('.ask')) draw(); }); draw();
