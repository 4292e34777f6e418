// The live version learned from what does not count any more: go back, or retrain without it.
const act = (what, text) => button(text, () => trigger('select', {do: what, value: what, index: 0}));
const paint = () => {
  const v = props.value || {}, line = el('p');
  if (!v.told) return element.replaceChildren();
  line.setAttribute('role', 'alert');
  line.append(el('span', '', v.told), act('back', t('go_back')), act('retrain', t('retrain_without_it')));
  element.replaceChildren(line);
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw();
