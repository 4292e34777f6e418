// The reasons one can give after a thumb.
const draw = () => {
  const v = props.value || {}, choices = v.choices || [];
  const row = document.createElement('div'); row.className = 'chiprow';
  row.setAttribute('role', 'group'); row.setAttribute('aria-label', 'Why?');
  const why = document.createElement('span'); why.textContent = 'Why?'; row.append(why);
  for (const c of choices) {
    const b = document.createElement('button'); b.type = 'button'; b.className = 'chip'; b.textContent = c;
    b.setAttribute('aria-pressed', String(c === v.chosen));
    b.onclick = () => trigger('select', {reason: c, value: c, index: 0}); row.append(b);
  }
  element.replaceChildren(row);
};
watch('value', draw); draw();
