// Ratings from a file: its bytes are read here, previewed by the server, imported once the preview is confirmed.
// Text reaches the page through textContent only.
const LIMIT = 16 * 1024 * 1024;  // bytes; the server takes twice that, for base64
let name = '', data = '', asked = {aspect: '', scale: 0};
const tell = (what, word) => { say(word); trigger('select', {...what, value: what.do, index: 0}); };
const say = word => element.replaceChildren(...(word ? [el('p', 'doing', word)] : []));
const end = () => { name = data = ''; asked = {aspect: '', scale: 0}; say(''); };
const preview = () => tell({do: 'preview', data, name, ...asked}, t('reading_file'));
const base64 = blob => new Promise(done => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.slice(reader.result.indexOf(',') + 1));
  reader.onerror = () => done(''); reader.readAsDataURL(blob);
});
const file = document.createElement('input');
file.type = 'file'; file.accept = '.json,.jsonl,.ndjson,.csv,.tsv,.gz,.zip,application/json'; file.hidden = true;
file.setAttribute('aria-label', t('file_of_ratings')); document.body.append(file);
file.onchange = async () => {
  const chosen = file.files[0];
  if (!chosen) return;
  if (chosen.size > LIMIT) { file.value = ''; return say(t('file_too_large')); }
  name = chosen.name; data = await base64(chosen); file.value = '';
  asked = {aspect: '', scale: 0}; preview();
};
window.rlhfImport = () => file.click();
const choice = (label, id, values, chosen, act) => {  // what the file does not say itself
  const line = el('p', 'choice'), word = el('label', '', label), list = el('select');
  list.id = word.htmlFor = id; line.append(word, list);
  for (const one of values) { const o = el('option', '', one ? String(one) : t('import_choose')); o.value = one; o.selected = one === chosen; list.append(o); }
  list.onchange = () => { act(list.value); preview(); };
  return line;
};
const found = v => {
  const counts = el('p', 'counts'), parts = [el('p', 'name', name), counts];
  for (const [kind, n] of v.kinds) { const s = el('span'); s.append(el('span', '', kind), el('b', '', String(n))); counts.append(s); }
  if (v.aspects.length > 1) parts.push(choice(t('import_aspect'), 'import-aspect', v.aspects, v.aspect, one => { asked.aspect = one; }));
  if (v.scales.length) parts.push(choice(t('import_scale'), 'import-scale', v.scale ? v.scales : [0, ...v.scales], v.scale, one => { asked.scale = Number(one); }));
  if (v.implied) parts.push(el('p', '', t('import_implied', {count: v.implied})));
  if (v.left) parts.push(el('p', '', t('import_left', {count: v.left})));
  if (v.unread && v.unread.length) {
    const list = el('ul'); parts.push(el('p', '', t('import_unread')), list);
    for (const [at, why] of v.unread) { const li = el('li'); li.append(el('b', '', String(at)), el('span', '', why)); list.append(li); }
    if (v.more) list.append(el('li', '', t('import_more', {count: v.more})));
  }
  const foot = el('p', 'foot'), yes = button(t('import_these'), () => tell({do: 'import', data, name, ...asked}, t('importing')), 'yes');
  if (v.kinds.length) foot.append(yes);
  foot.append(button(t('cancel'), end)); parts.push(foot);
  element.replaceChildren(...parts);
  (v.kinds.length ? yes : element.querySelector('select')).focus();
};
const draw = () => {
  const v = props.value || {};
  if (v.kinds && data) return found(v);
  end();
};
watch('value', draw); draw();
