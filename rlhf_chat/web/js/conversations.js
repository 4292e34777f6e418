// The list of conversations: open, rename, delete. Text reaches the page through textContent only.
const button = (label, cls, text, act) => {
  const b = document.createElement('button');
  b.type = 'button'; b.className = cls; b.textContent = text; b.title = label;
  b.setAttribute('aria-label', label); b.onclick = act; return b;
};
const ask = (c, li) => {
  const q = document.createElement('span'); q.className = 'ask'; q.textContent = 'Delete this and its ratings?';
  const yes = button('Delete conversation', 'yes', 'Delete', () => trigger('select', {do: 'delete', id: c.id, value: c.id, index: 0}));
  const no = button('Keep conversation', 'no', 'Keep', draw);
  li.replaceChildren(q, yes, no); no.focus();
};
const rename = (c, li) => {
  const box = document.createElement('input'); box.value = c.title; box.maxLength = 80;
  box.setAttribute('aria-label', 'Conversation name');
  let over = false;
  const end = keep => { if (over) return; over = true;
    if (keep && box.value.trim() && box.value !== c.title)
      trigger('select', {do: 'rename', id: c.id, title: box.value, value: c.id, index: 0});
    draw(); };
  box.onkeydown = e => { e.stopPropagation(); if (e.key === 'Enter') end(true); if (e.key === 'Escape') end(false); };
  box.onblur = () => end(true);
  li.replaceChildren(box); box.focus(); box.select();
};
const draw = () => {
  const list = document.createElement('ul');
  for (const c of props.value || []) {
    const li = document.createElement('li'); if (c.current) li.className = 'current';
    const open = button(c.title, 'open', c.title, () => {
      trigger('select', {do: 'open', id: c.id, value: c.id, index: 0});
      if (window.innerWidth < 700 && window.rlhfSidebar) window.rlhfSidebar(false);
    });
    if (c.current) open.setAttribute('aria-current', 'true');
    li.append(open, button('Rename conversation', 'tool rename', '\u270e\ufe0e', () => rename(c, li)),
                    button('Delete conversation\u2026', 'tool delete', '\u2715', () => ask(c, li)));
    list.append(li);
  }
  element.replaceChildren(list);
};
watch('value', draw); draw();
