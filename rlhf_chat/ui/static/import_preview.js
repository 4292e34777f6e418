// Ratings from a file: read here, looked at there, taken in when the person has seen what it holds.
// Text reaches the page through textContent only.
const LIMIT = 16 * 1024 * 1024;  // bytes; the server takes twice that, for signs that JSON escapes
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
const button = (text, cls, act) => { const b = el('button', cls, text); b.type = 'button'; b.onclick = act; return b; };
let name = '', text = '';
const tell = (what, word) => { say(word); trigger('select', {...what, value: what.do, index: 0}); };
const say = word => element.replaceChildren(...(word ? [el('p', 'doing', word)] : []));
const end = () => { name = text = ''; say(''); };
const file = document.createElement('input');
file.type = 'file'; file.accept = '.json,.jsonl,application/json'; file.hidden = true;
file.setAttribute('aria-label', 'A file of ratings'); document.body.append(file);
file.onchange = async () => {
  const chosen = file.files[0];
  if (!chosen) return;
  if (chosen.size > LIMIT) { file.value = ''; return say('This file is too large: 16 MB can be imported at a time.'); }
  name = chosen.name; text = await chosen.text(); file.value = '';
  tell({do: 'preview', text}, 'Reading the file');
};
window.rlhfImport = () => file.click();
const found = v => {
  const counts = el('p', 'counts'), parts = [el('p', 'name', name), counts];
  for (const [kind, n] of v.kinds) { const s = el('span'); s.append(el('span', '', kind), el('b', '', String(n))); counts.append(s); }
  if (v.left) parts.push(el('p', '', `${v.left} more answers are left out: import them from a file of their own.`));
  if (v.unread.length) {
    const list = el('ul'); parts.push(el('p', '', 'These entries cannot be used:'), list);
    for (const [at, why] of v.unread) { const li = el('li'); li.append(el('b', '', String(at)), el('span', '', why)); list.append(li); }
    if (v.more) list.append(el('li', '', `and ${v.more} more`));
  }
  const foot = el('p', 'foot'), yes = button('Import these', 'yes', () => tell({do: 'import', text}, 'Importing'));
  foot.append(yes, button('Cancel', '', end)); parts.push(foot);
  element.replaceChildren(...parts); yes.focus();
};
const draw = () => {
  const v = props.value || {};
  if (v.kinds && text) return found(v);
  end();
};
watch('value', draw); draw();
