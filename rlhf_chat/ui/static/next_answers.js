// Asks for the next answers: when Compare is first seen, and once for each `after`, which names what was
// answered. An empty one means that the last of them is open again.
let last = '', begun = false;
const next = () => { begun = true; trigger('select', {value: 'next', index: 0}); };
const draw = () => {
  const after = (props.value || {}).after || '';
  if (after === last) return;
  last = after;
  if (after) next();
};
const whenSeen = () => {
  const place = document.getElementById('candidates');
  if (!place) return setTimeout(whenSeen, 100);
  new IntersectionObserver((entries, observer) => {
    if (!entries.some(e => e.isIntersecting)) return;
    observer.disconnect();
    if (!begun) next();
  }).observe(place);
};
watch('value', draw); draw(); whenSeen();
