// The files that were taken in last; what each of them brought can be sent back, asked first.
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
const button = (text, act) => { const b = el('button', '', text); b.type = 'button'; b.onclick = act; return b; };
const row = r => {
  const li = el('li'), undo = button('Undo the import', () => {
    const yes = button('Undo', window.rlhfOnce(() => {
      yes.disabled = true; trigger('select', {do: 'back', origin: r.origin, value: r.origin, index: 0});
    }));
    const no = button('Keep', () => { li.replaceChildren(...before); undo.focus(); });
    const before = [...li.childNodes];
    li.replaceChildren(el('span', 'ask', 'Delete all that this file brought, words and ratings?'), yes, no); no.focus();
  });
  li.append(el('span', '', r.told), undo); return li;
};
const paint = () => {
  const rows = (props.value || {}).rows || [], list = el('ul');
  list.append(...rows.map(row)); element.replaceChildren(...(rows.length ? [list] : []));
};
const draw = () => window.rlhfStay(element, paint);
// The list is sent again after every act on this screen: not out of a question that stands.
const asked = () => { const yes = element.querySelector('.ask + button'); return yes && !yes.disabled; };
watch('value', () => { if (!asked()) draw(); }); draw();
