// The welcome card; its last button opens Compare, where two answers come by themselves.
let at = 0;
const away = () => trigger('select', {value: 'away', index: 0});
// A simulated person votes until a version has changed; on Learning it is seen, and removed with one click.
const practise = () => {
  document.getElementById('tab-learning-button').click();
  const start = () => document.querySelector('#simulation-buttons button:enabled'), open = document.querySelector('#simulation button');
  if (!open) return setTimeout(practise, 100);
  if (!start()) open.click();
  const begin = tries => start() ? (start().click(), start().scrollIntoView({block: 'center'})) : tries && setTimeout(() => begin(tries - 1), 100);
  setTimeout(() => begin(50), 300);
};
const draw = () => {
  const v = props.value || {}, steps = v.steps || [];
  document.body.classList.toggle('welcome', Boolean(v.shown));
  if (!v.shown || !steps.length) return element.replaceChildren();
  const [heading, words, label] = steps[at], last = at === steps.length - 1;
  const card = el('section', 'card'), foot = el('div', 'foot'), dots = el('span', 'dots');
  card.setAttribute('aria-label', t('welcome'));
  steps.forEach((_, i) => dots.append(el('i', i === at ? 'here' : '')));
  dots.setAttribute('role', 'img'); dots.setAttribute('aria-label', t('step', {number: at + 1, count: steps.length}));
  const go = by => { at += by; draw(); element.querySelector('.main').focus(); };
  foot.append(dots, button(t('skip'), away, 'skip'));
  if (at) foot.append(button(t('back'), () => go(-1)));
  if (last) foot.append(button(t('watch_practice'), () => { away(); practise(); }));
  foot.append(button(label, () => { if (!last) return go(1); away(); document.getElementById('tab-compare-button').click(); }, 'main')); card.append(el('h2', '', heading), el('p', '', words), foot); element.replaceChildren(card);
};
watch('value', draw); draw();
