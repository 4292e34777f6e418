// Files that go with the message: read here, counted by the server. Names reach the page through textContent only.
const text = window.rlhfText;
const LIMIT = 4 * 1024 * 1024;  // bytes; the server says what is too much for a message
const picker = document.createElement('input');
picker.type = 'file'; picker.multiple = true; picker.hidden = true; picker.setAttribute('aria-label', text('attach')); document.body.append(picker);
const add = async files => trigger('select', {add: await Promise.all([...files].map(async f => ({name: f.name, text: f.size > LIMIT ? '\0' : await f.text()}))), value: 'add', index: 0});
picker.onchange = () => { const files = [...picker.files]; picker.value = ''; if (files.length) add(files); };
window.rlhfAttach = types => { picker.accept = types; picker.click(); };
const name = () => { const b = document.getElementById('attach'); if (!b) return setTimeout(name, 100); b.title = text('attach'); b.setAttribute('aria-label', text('attach')); };
const paint = () => {
  const v = props.value || {}, files = v.files || [], told = document.createElement('span');
  told.className = v.over ? 'told over' : 'told'; told.textContent = v.told || ''; told.setAttribute('role', 'status');
  element.replaceChildren(...files.map((f, i) => {
    const chip = document.createElement('span'), x = document.createElement('button');
    chip.className = 'file'; x.type = 'button'; x.textContent = '\u00d7'; x.setAttribute('aria-label', text('remove_file', {name: f.name}));
    x.onclick = () => trigger('select', {drop: i, value: 'drop', index: 0}); chip.append(f.name, x); return chip;
  }), ...(files.length ? [told] : []));
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw(); name();
