// The reasons that can be given after a thumb, the stars, and the button that closes them. view.js puts the
// panel under the reply and names it.
const t = window.rlhfText;
const paint = () => {
  const v = props.value || {}, choices = v.choices || [];
  if (!v.id) return element.replaceChildren();
  const about = document.createElement('p'); about.className = 'about'; about.dataset.about = v.id;
  const row = document.createElement('div'); row.className = 'reason-row';
  row.setAttribute('role', 'group'); row.setAttribute('aria-label', t('why'));
  const why = document.createElement('span'); why.textContent = t('why'); if (choices.length) row.append(why);
  for (const [c, shown] of choices) {
    const b = document.createElement('button'); b.type = 'button'; b.className = 'reason'; b.textContent = shown;
    b.setAttribute('aria-pressed', String(c === v.chosen));
    b.onclick = () => trigger('select', {reason: c, value: c, index: 0}); row.append(b);
  }
  const stars = document.createElement('span'); stars.className = 'stars';
  stars.setAttribute('role', 'group'); stars.setAttribute('aria-label', t('stars'));
  for (let n = 1; n <= 5; n++) {
    const b = document.createElement('button'); b.type = 'button'; b.textContent = n <= (v.stars || 0) ? '\u2605' : '\u2606';
    b.setAttribute('aria-label', t('star_count', {count: n})); b.setAttribute('aria-pressed', String(n === v.stars));
    b.onclick = () => trigger('select', {stars: n, value: n, index: 0}); stars.append(b);
  }
  row.append(stars);
  const shut = document.createElement('button'); shut.type = 'button'; shut.className = 'shut'; shut.textContent = '\u00d7';
  shut.setAttribute('aria-label', t('close')); shut.onclick = () => trigger('select', {shut: 'yes', value: 'shut', index: 0});
  element.replaceChildren(about, row, shut);
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw();
