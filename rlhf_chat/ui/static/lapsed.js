// The live version learned from what does not count any more: go back, or retrain without it.
const t = window.rlhfText;
const el = (tag, text) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; return e; };
const button = (what, text) => {
  const b = el('button', text); b.type = 'button';
  b.onclick = window.rlhfOnce(() => trigger('select', {do: what, value: what, index: 0})); return b;
};
const paint = () => {
  const v = props.value || {}, line = el('p');
  if (!v.told) return element.replaceChildren();
  line.setAttribute('role', 'alert');
  line.append(el('span', v.told), button('back', t('go_back')), button('retrain', t('retrain_without_it')));
  element.replaceChildren(line);
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw();
