// Tells the server when the page is hidden or seen again, so that no clock runs for nobody.
document.addEventListener('visibilitychange',
  () => trigger('select', {seen: !document.hidden, value: String(!document.hidden), index: 0}));
