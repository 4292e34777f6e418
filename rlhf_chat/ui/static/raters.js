// The raters, one line each. Text reaches the page through textContent only.
const tell = (r, what) => trigger('select', {do: what, name: r.name, value: r.name, index: 0});
const line = r => {
  const li = el('li', r.counts ? '' : 'aside'), who = el('b', 'name', r.name), facts = el('span', 'facts');
  for (const part of r.parts) facts.append(el('span', '', part));
  li.append(who, facts);
  if (r.suspect) li.append(el('span', 'suspect', t('rater_suspect')));
  const foot = el('span', 'foot');
  foot.append(r.counts ? button(t('exclude'), () => tell(r, 'aside')) : button(t('include'), () => tell(r, 'back')));
  foot.append(button(t('exclude_and_retrain'), () => tell(r, 'rebuild')));
  li.append(foot); return li;
};
const paint = () => {
  const v = props.value || {rows: []}, parts = [];
  if (v.rows.length) {
    const list = el('ul', 'raters'); for (const r of v.rows) list.append(line(r));
    parts.push(el('h3', '', t('raters')), list);
    if (v.alpha) parts.push(el('p', 'alpha', v.alpha));
  }
  element.replaceChildren(...parts);
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw();
