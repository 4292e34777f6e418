// The files imported last. None is learned from before a click; each import can be undone, after a question.
const row = r => {
  const li = el('li'), undo = button(t('undo_import'), () => window.rlhfAsk(undo, li, t('undo_import_question'), t('undo'), t('keep'),
    () => trigger('select', {do: 'undo', origin: r.origin, value: r.origin, index: 0})));
  li.append(el('span', '', r.told));
  if (!r.counts) {
    const yes = () => trigger('select', {do: 'accept', origin: r.origin, value: r.origin, index: 0});
    li.append(el('b', 'waits', t('learn_question')), button(t('learn_from_import'), yes));
  }
  li.append(undo); return li;
};
const paint = () => {
  const rows = (props.value || {}).rows || [], list = el('ul');
  list.append(...rows.map(row)); element.replaceChildren(...(rows.length ? [list] : []));
};
const draw = () => window.rlhfStay(element, paint);
// The list is sent again after every act on this screen: not out of a question that stands.
watch('value', () => { if (!element.querySelector('.ask')) draw(); }); draw();
