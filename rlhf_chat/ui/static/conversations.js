// The list of conversations, by day and filtered by what is searched: open, rename, pin, delete and undo that.
// Text reaches the page through textContent only.
const tool = (label, cls, act, shown = '') => { const b = button(shown, act, cls, label); b.title = label; return b; };
const tell = (c, what, more) => trigger('select', {do: what, id: c.id, value: c.id, index: 0, ...more});
const deleted = c => {
  const li = el('li', 'gone');
  li.append(el('span', 'told', t('chat_deleted')), tool(t('undo_delete') + ': ' + c.title, 'undo', () => tell(c, 'undo_delete'), t('undo_delete')));
  setTimeout(draw, Math.max(0, c.until * 1000 - Date.now()) + 50); return li;
};
const rename = (c, li) => {
  const box = el('input', 'naming'); box.value = c.title; box.maxLength = 80;
  box.setAttribute('aria-label', t('chat_name'));
  let over = false;
  const end = keep => { if (over) return; over = true;
    if (keep && box.value.trim() && box.value !== c.title)
      tell(c, 'rename', {title: box.value});
    draw(); };
  box.onkeydown = e => {
    e.stopPropagation();
    if (e.isComposing) return;  // this Enter ends an input method's word, not the name
    if (e.key === 'Enter') end(true); if (e.key === 'Escape') end(false);
  };
  box.onblur = () => end(true);
  li.replaceChildren(box); box.focus(); box.select();
};
const item = c => {
  if (c.until) return deleted(c);
  const li = el('li', c.current ? 'current' : '');
  const open = tool(c.title, 'open', () => { tell(c, 'open'); if (window.rlhfNarrow()) window.rlhfSidebar(false); }, c.title);
  if (c.current) open.setAttribute('aria-current', 'true');
  if (snippets[c.id]) {
    const [before, hit, after] = snippets[c.id], p = el('p', 'snippet');
    p.append(before, el('mark', '', hit), after); open.append(p);
  }
  li.append(open, tool(t(c.pinned ? 'unpin_chat' : 'pin_chat'), 'tool pin ' + (c.pinned ? 'lucide-pin-off' : 'lucide-pin'), () => tell(c, 'pin', {pinned: !c.pinned})),
                  tool(t('rename_chat'), 'tool rename lucide-pencil', () => rename(c, li)),
                  tool(t('delete_chat'), 'tool delete lucide-trash-2', () => tell(c, 'delete')));
  return li;
};
// The day is the reader's own, by the clock of the browser.
const DAY = 86400000;
const midnight = d => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
const group = at => {
  const then = new Date(at), days = Math.round((midnight(new Date()) - midnight(then)) / DAY);
  if (isNaN(days)) return t('earlier');
  if (days < 1) return t('today');
  if (days < 2) return t('yesterday');
  if (days <= 7) return t('previous_7_days');
  if (days <= 30) return t('previous_30_days');
  return then.toLocaleDateString(document.documentElement.lang || undefined, {month: 'long', year: 'numeric'});
};
const box = () => document.querySelector('#search input, #search textarea');
// What the last search found is kept: every other value comes without it.
let found = {words: '', hits: []}, snippets = {};
const paint = () => {
  const v = props.value || {}, words = (box() ? box().value : '').trim().toLowerCase();
  if (v.words) found = {words: v.words.trim().toLowerCase(), hits: v.hits};
  const hits = found.words === words ? found.hits : [];
  snippets = Object.fromEntries(hits.filter(h => h.length > 1).map(([id, ...around]) => [id, around]));
  const ids = new Set(hits.map(h => h[0])), now = Date.now() / 1000;
  const rows = (v.rows || []).filter(c => (!c.until || c.until > now) && (!words || ids.has(c.id) || c.title.toLowerCase().includes(words)));
  const parts = []; let name = '', list = null;
  for (const c of rows) {
    const day = c.pinned ? t('pinned') : group(c.at);
    if (day !== name) {
      name = day;
      list = el('ul'); list.setAttribute('aria-label', name); parts.push(el('h3', '', name), list);
    }
    list.append(item(c));
  }
  if (!rows.length) parts.push(el('p', 'none', t(words ? 'no_chat_found' : 'no_chats')));
  element.replaceChildren(...parts);
};
const draw = () => window.rlhfStay(element, paint);
const listen = () => { const b = box(); if (!b) return setTimeout(listen, 100); b.addEventListener('input', draw); };
// A reply's beginning and end must not tear a half-written name out of somebody's hands.
watch('value', () => { if (!element.querySelector('.naming')) draw(); });
draw(); listen();
