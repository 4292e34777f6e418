// The welcome card; its last button opens Compare, where two answers come by themselves.
const t = window.rlhfText;
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
let at = 0;
const away = () => trigger('select', {value: 'away', index: 0});
const draw = () => {
  const v = props.value || {}, steps = v.steps || [];
  document.body.classList.toggle('welcome', Boolean(v.shown));
  if (!v.shown || !steps.length) return element.replaceChildren();
  const [heading, words, label] = steps[at], last = at === steps.length - 1;
  const card = el('section', 'card'), foot = el('div', 'foot'), dots = el('span', 'dots');
  card.setAttribute('aria-label', t('welcome'));
  steps.forEach((_, i) => dots.append(el('i', i === at ? 'here' : '')));
  dots.setAttribute('role', 'img'); dots.setAttribute('aria-label', t('step', {number: at + 1, count: steps.length}));
  const skip = el('button', 'skip', t('skip')), next = el('button', 'main', label);
  skip.type = next.type = 'button'; skip.onclick = away;
  next.onclick = () => {
    if (!last) { at += 1; draw(); element.querySelector('.main').focus(); return; }
    away(); document.getElementById('tab-compare-button').click();
  };
  foot.append(dots, skip);
  if (at) { const back = el('button', '', t('back')); back.type = 'button'; back.onclick = () => { at -= 1; draw(); }; foot.append(back); }
  foot.append(next); card.append(el('h2', '', heading), el('p', '', words), foot); element.replaceChildren(card);
};
watch('value', draw); draw();
