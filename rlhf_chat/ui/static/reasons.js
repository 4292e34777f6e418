// The reasons that can be given after a thumb, the stars, and the button that closes them. view.js puts the
// panel under the reply and names it.
const paint = () => {
  const v = props.value || {}, choices = v.choices || [];
  if (!v.id) return element.replaceChildren();
  const about = el('p', 'about'), row = el('div', 'reason-row'), stars = el('span', 'stars');
  about.dataset.about = v.id;
  for (const [group, name] of [[row, t('why')], [stars, t('stars')]]) { group.setAttribute('role', 'group'); group.setAttribute('aria-label', name); }
  const one = (group, pressed, what, ...shown) => {
    const b = button(shown[0], () => trigger('select', {...what, index: 0}), ...shown.slice(1));
    b.setAttribute('aria-pressed', String(pressed)); group.append(b);
  };
  if (choices.length) row.append(el('span', '', t('why')));
  for (const [c, shown] of choices) one(row, c === v.chosen, {reason: c, value: c}, shown, 'reason');
  for (let n = 1; n <= 5; n++)
    one(stars, n === v.stars, {stars: n, value: n}, '', n <= (v.stars || 0) ? 'lucide-star full' : 'lucide-star', t('star_count', {count: n}));
  row.append(stars);
  element.replaceChildren(about, row, button('', () => trigger('select', {shut: 'yes', value: 'shut', index: 0}), 'shut lucide-x', t('close')));
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw();
