// The reasons one can give after a thumb, the stars, and what closes them.
const paint = () => {
  const v = props.value || {}, choices = v.choices || [];
  const row = document.createElement('div'); row.className = 'reason-row';
  row.setAttribute('role', 'group'); row.setAttribute('aria-label', 'Why?');
  const why = document.createElement('span'); why.textContent = 'Why?'; if (choices.length) row.append(why);
  for (const c of choices) {
    const b = document.createElement('button'); b.type = 'button'; b.className = 'reason'; b.textContent = c;
    b.setAttribute('aria-pressed', String(c === v.chosen));
    b.onclick = () => trigger('select', {reason: c, value: c, index: 0}); row.append(b);
  }
  const stars = document.createElement('span'); stars.className = 'stars';
  stars.setAttribute('role', 'group'); stars.setAttribute('aria-label', 'Stars');
  for (let n = 1; n <= 5; n++) {
    const b = document.createElement('button'); b.type = 'button'; b.textContent = n <= (v.stars || 0) ? '\u2605' : '\u2606';
    b.setAttribute('aria-label', n === 1 ? '1 star' : n + ' stars'); b.setAttribute('aria-pressed', String(n === v.stars));
    b.onclick = () => trigger('select', {stars: n, value: n, index: 0}); stars.append(b);
  }
  if (v.id) row.append(stars);
  const shut = document.createElement('button'); shut.type = 'button'; shut.className = 'shut'; shut.textContent = '\u00d7';
  shut.setAttribute('aria-label', 'Close'); shut.onclick = () => trigger('select', {shut: 'yes', value: 'shut', index: 0});
  row.append(shut);
  element.replaceChildren(row);
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw();
