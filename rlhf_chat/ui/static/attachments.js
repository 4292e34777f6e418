// Files that go with the message: read here, counted by the server. Names reach the page through textContent only.
const LIMIT = 4 << 20, PDF_LIMIT = 17 << 20;  // bytes of a text and of a PDF; the server says what is too much for a message
const read = file => new Promise(done => { const r = new FileReader(); r.onload = () => done(r.result.slice(r.result.indexOf(',') + 1)); r.onerror = () => done(''); r.readAsDataURL(file); });
const part = async f => {
  const pdf = /\.pdf$/i.test(f.name);
  if (f.size > (pdf ? PDF_LIMIT : LIMIT)) return {name: f.name, over: true};
  return pdf ? {name: f.name, data: await read(f)} : {name: f.name, text: await f.text()};
};
const picker = document.createElement('input');
picker.type = 'file'; picker.multiple = true; picker.hidden = true; picker.setAttribute('aria-label', t('attach')); document.body.append(picker);
const add = async files => trigger('select', {add: await Promise.all([...files].map(part)), value: 'add', index: 0});
picker.onchange = () => { const files = [...picker.files]; picker.value = ''; if (files.length) add(files); };
window.rlhfAttach = types => { picker.accept = types; picker.click(); };
const name = () => { const b = document.getElementById('attach'); if (!b) return setTimeout(name, 100); b.title = t('attach'); b.setAttribute('aria-label', t('attach')); };
const paint = () => {
  const v = props.value || {}, files = v.files || [], told = el('span', v.over ? 'told over' : 'told', v.told || '');
  told.setAttribute('role', 'status');
  element.replaceChildren(...files.map((f, i) => {
    const chip = el('span', 'file');
    chip.append(f.name, el('span', 'pages', f.note || ''), button('', () => trigger('select', {drop: i, value: 'drop', index: 0}), 'lucide-x', t('remove_file', {name: f.name}))); return chip;
  }), ...(files.length ? [told] : []));
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw(); name();
