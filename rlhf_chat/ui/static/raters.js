// The raters, one line each. Text reaches the page through textContent only.
const t = window.rlhfText;
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
const tell = (r, what) => trigger('select', {do: what, name: r.name, value: r.name, index: 0});
const button = (r, text, what) => { const b = el('button', '', text); b.type = 'button'; b.onclick = () => tell(r, what); return b; };
const line = r => {
  const li = el('li', r.counts ? '' : 'aside'), who = el('b', 'name', r.name), facts = el('span', 'facts');
  for (const part of r.parts) facts.append(el('span', '', part));
  li.append(who, facts);
  if (r.suspect) li.append(el('span', 'suspect', t('rater_suspect')));
  const foot = el('span', 'foot');
  foot.append(r.counts ? button(r, t('exclude'), 'aside') : button(r, t('include'), 'back'));
  foot.append(button(r, t('exclude_and_retrain'), 'rebuild'));
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
