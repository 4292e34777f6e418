// What the simulated rater reads and chooses. Text reaches the page through textContent only.
const draw = () => {
  const v = props.value || {}, parts = [];
  if (v.doing) { const p = el('p', 'doing'); if (v.rater) p.append(el('span', 'badge', v.rater), ' '); p.append(v.doing); parts.push(p); }
  if (v.prompt) {
    parts.push(el('p', 'prompt', v.prompt));
    const two = el('div', 'pair');
    for (const [side, text] of [['a', v.left], ['b', v.right]]) {
      const box = el('div', 'text' + (v.outcome === side ? ' best' : ''));
      box.append(el('span', 'by', t(v.outcome === side ? 'chooses' : side === 'a' ? 'answer_a' : 'answer_b')), el('p', '', text || '\u2026'));
      two.append(box);
    }
    parts.push(two);
    if (v.outcome === 'tie') parts.push(el('p', 'quiet', t('tie')));
  }
  element.replaceChildren(...parts);
};
watch('value', draw); draw();
