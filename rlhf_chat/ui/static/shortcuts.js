// Keys, the draft of the message, the help sheet and the phone layout. SHORTCUTS is written in by shortcuts.py.
(() => {
  const text = window.rlhfText, el = window.rlhfEl, button = window.rlhfButton;
  const seen = e => e && e.offsetParent !== null && !e.disabled;
  const byId = id => document.getElementById(id);
  const press = id => { const b = byId(id); if (!seen(b)) return false; b.click(); return true; };
  const box = () => document.querySelector('#message textarea');

  // The draft survives a reload and a restart; the server says when it has been sent.
  const DRAFT = 'rlhf-chat:draft';
  const put = (field, text) => { field.value = text; field.dispatchEvent(new Event('input', {bubbles: true})); };
  const keep = text => { try { text ? localStorage.setItem(DRAFT, text) : localStorage.removeItem(DRAFT); } catch (_) {} };
  window.rlhfDraft = {sent: () => setTimeout(() => { const b = box(); keep(b ? b.value : ''); }, 60)};
  document.addEventListener('input', e => { if (e.target === box()) keep(e.target.value); });

  // What was written, from what markdown_escape.py made of it for the page; also for Gradio's copy button.
  const MATHS = ['$', '$', '\\(', '\\)', '$$', '$$', '\\[', '\\]'];
  window.rlhfRaw = text => text.replace(/&#x(0[0-9a-f]{4});|[\ue0f0-\ue0f7]/g, (mark, code) => !code ? MATHS[mark.charCodeAt(0) - 0xe0f0] : code === '00020' ? '' : String.fromCharCode(parseInt(code, 16)));
  if (navigator.clipboard) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = text => write(window.rlhfRaw(text));
  }
  // Each line of a box runs the way its own words do.
  document.addEventListener('focusin', e => { if (e.target.matches('textarea, input[type=text], input:not([type])')) e.target.dir = 'auto'; });

  let last = {of: '', id: '', at: 0};
  window.rlhfSendId = inputs => {
    const of = JSON.stringify(inputs), now = Date.now();
    if (of !== last.of || now - last.at > 1000) last = {of, id: crypto.randomUUID(), at: now};
    return last.id;
  };

  // A list that is drawn anew keeps the keyboard: what stands where the focus was has it afterwards.
  const CONTROLS = 'button, input, select, textarea, [tabindex="0"]';
  window.rlhfStay = (element, draw) => {
    const all = () => [...element.querySelectorAll(CONTROLS)].filter(seen), at = all().indexOf(document.activeElement);
    draw();
    if (at < 0 || element.contains(document.activeElement)) return;
    const now = all(), one = now[Math.min(at, now.length - 1)];
    if (one) one.focus({preventScroll: true});
  };

  // A question in place of what stands in a box, which comes back, with the focus, once it is answered.
  window.rlhfAsk = (opener, box, question, yes, no, act) => {
    const before = [...box.childNodes], end = () => { box.replaceChildren(...before); opener.focus(); };
    const keep = button(no, end);
    box.replaceChildren(el('span', 'ask', question), button(yes, () => { end(); act(); }, 'yes'), keep); keep.focus();
  };

  // On a phone and on a small tablet Gradio's sidebar covers the page, so there it starts closed.
  const narrow = matchMedia('(max-width: 768px)');
  window.rlhfNarrow = () => narrow.matches;
  window.rlhfSidebar = open => {
    const side = byId('side');
    if (side && side.classList.contains('open') !== open) side.querySelector('.toggle-button').click();
  };

  // Light, dark or as the system has it; remembered. An app window begins where it was left.
  const THEME = 'rlhf-chat:theme', WHERE = 'rlhf-chat:conversation';
  const THEMES = {'': text('theme_system'), light: text('theme_light'), dark: text('theme_dark')};
  const stored = key => { try { return localStorage.getItem(key) || ''; } catch (_) { return ''; } };
  const system = matchMedia('(prefers-color-scheme: dark)');
  const paint = () => {
    const theme = stored(THEME);
    if (theme) document.body.classList.toggle('dark', theme === 'dark');
    const b = byId('theme-toggle'); if (b) b.title = THEMES[theme] || THEMES[''];
  };
  window.rlhfTheme = () => {
    const next = {'': 'light', light: 'dark', dark: ''}[stored(THEME)];
    try { next ? localStorage.setItem(THEME, next) : localStorage.removeItem(THEME); } catch (_) {}
    if (!next) document.body.classList.toggle('dark', system.matches);
    paint();
  };
  system.addEventListener('change', () => setTimeout(paint, 50));
  window.rlhfAt = id => { try { id ? localStorage.setItem(WHERE, id) : localStorage.removeItem(WHERE); } catch (_) {} };
  if (matchMedia('(display-mode: standalone)').matches && !location.search && stored(WHERE))
    location.replace('?c=' + encodeURIComponent(stored(WHERE)));

  // The panel of settings: open or shut is remembered, except on a phone, where it covers the chat.
  const PANEL = 'rlhf-chat:panel';
  window.rlhfPanel = open => {
    const now = document.body.classList.toggle('settings-open', open);
    const toggle = byId('settings-toggle'); if (toggle) toggle.setAttribute('aria-expanded', String(now));
    try { now && window.innerWidth >= 1000 ? localStorage.setItem(PANEL, '1') : localStorage.removeItem(PANEL); } catch (_) {}
    return true;
  };
  const go = name => { const t = byId(`tab-${name}-button`) || [...document.querySelectorAll('#tabs [role=tab]')].find(b => b.id.includes(name) || b.dataset.tabId === name); if (t) t.click(); return Boolean(t); };
  const GO = {c: 'chat', m: 'compare', l: 'learning', v: 'versions', d: 'data'};
  let going = 0;

  // The help sheet: keys, the words that the app uses, and how it learns.
  const dialog = el('dialog'), title = el('h2', '', text('help')), keys = el('dl', 'keys'), words = el('dl'), steps = el('ol');
  dialog.id = 'shortcuts'; dialog.setAttribute('aria-label', text('help'));
  title.tabIndex = -1; title.autofocus = true;  // else Close takes the focus, and a low window opens at its end
  for (const [key, what] of SHORTCUTS) {
    const dt = el('dt');
    for (const part of (key.startsWith('key_') ? text(key) : key).split('  ')) dt.append(el('kbd', '', part), ' ');
    keys.append(dt, el('dd', '', text(what)));
  }
  for (const name of TERMS) words.append(el('dt', '', text(`term_${name}`)), el('dd', '', text(`means_${name}`)));
  for (const step of STEPS) steps.append(el('li', '', text(step)));
  dialog.append(title, el('h3', '', text('how_it_learns')), steps, el('h3', '', text('words')), words, el('h3', 'keys', text('keys')), keys, button(text('close'), () => dialog.close()));
  dialog.onclick = e => { if (e.target === dialog) dialog.close(); };
  const help = window.rlhfHelp = () => { if (!dialog.isConnected) (document.querySelector('.gradio-container') || document.body).append(dialog); dialog.open ? dialog.close() : dialog.showModal(); dialog.scrollTop = 0; };

  // Told by the system when a version came while the page was hidden: only after it was asked for in the settings.
  const NOTIFY = 'rlhf-chat:notify';
  window.rlhfNotifies = () => Boolean(stored(NOTIFY)) && 'Notification' in window && Notification.permission === 'granted';
  window.rlhfNotify = async wanted => {
    const may = wanted && 'Notification' in window && await Notification.requestPermission() === 'granted';
    try { may ? localStorage.setItem(NOTIFY, '1') : localStorage.removeItem(NOTIFY); } catch (_) {}
    return [may, {text: wanted && !may ? text('notify_refused') : '', tone: 'bad'}];
  };

  // Compare with a finger: a stroke to the left is a vote for A, to the right for B, as the arrow keys are.
  let stroke = null;
  document.addEventListener('touchstart', e => {
    const one = e.touches.length === 1 && e.target.closest('#candidates') && !e.target.closest('button, pre, table');
    stroke = one ? {x: e.touches[0].clientX, y: e.touches[0].clientY, at: Date.now()} : null;
  }, {passive: true});
  document.addEventListener('touchend', e => {
    if (!stroke) return;
    const x = e.changedTouches[0].clientX - stroke.x, y = e.changedTouches[0].clientY - stroke.y, quick = Date.now() - stroke.at < 600;
    stroke = null;
    if (quick && Math.abs(x) > 80 && Math.abs(x) > 2 * Math.abs(y)) vote(x < 0 ? 'vote-a' : 'vote-b');
  }, {passive: true});

  // The buttons under the last reply by place, because their names change with the language:
  // copy, another reply, thumb down, thumb up. Only rows of replies carry our stamp.
  const lastBar = () => {
    const stamps = [...document.querySelectorAll('#bot .foot .stamp')].filter(seen);
    return stamps.length ? stamps[stamps.length - 1].closest('.message-buttons') : null;
  };
  const under = at => {
    const bar = lastBar();
    const all = bar ? [...bar.querySelectorAll('.icon-button-wrapper button')].filter(seen) : [];
    const b = at === 'retry' ? (all.length > 3 ? all[1] : null) : all.at(at);
    if (!b) return false;
    b.click(); return true;
  };
  const sibling = which => { const bar = lastBar(), b = bar && bar.querySelector(which); if (!b) return false; b.click(); return true; };
  const editLast = () => {
    const bars = [...document.querySelectorAll('#bot .message-buttons-right')].filter(seen);
    const all = bars.length ? [...bars[bars.length - 1].querySelectorAll('.icon-button-wrapper button')] : [];
    if (all.length < 2) return false;
    all[all.length - 1].click(); return true;
  };
  // After a vote the next answers come by themselves: for half a second keys vote on nothing, and N, by
  // habit, does not skip them. The second half of a double click falls on whatever appears there by then.
  let votedAt = 0, clicked = {id: '', at: 0};
  const fresh = ms => Date.now() - votedAt < ms;
  const vote = id => {
    if (fresh(500) || !press(id)) return false;
    votedAt = Date.now(); return true;
  };
  document.addEventListener('click', e => {
    const b = e.isTrusted && e.target.closest && e.target.closest('button');
    if (!b) return;
    const voting = /^(vote|place)-|^rest-equal$/, after = /^(vote-.*|slightly|much|undo)$/;
    const again = Date.now() - clicked.at < 500 && (b.id === clicked.id || (voting.test(clicked.id) && after.test(b.id)));
    if (again && /^(vote|place)-|^(rest-equal|slightly|much|undo|new-drafts)$/.test(b.id)) { e.stopImmediatePropagation(); e.preventDefault(); return; }
    if (/^vote-/.test(b.id)) votedAt = Date.now();
    if (voting.test(b.id) || b.id === 'new-drafts') clicked = {id: b.id, at: Date.now()};
  }, true);
  // The order of several drafts grows here: the server's word of it comes too late for quick keys. One
  // id until Undo, and nothing more after "the rest": however often keys are pressed, one ranking.
  let ranking = {};
  window.rlhfPlace = ([letter, set, , , ...rest]) => {
    if (ranking.set !== set) ranking = {set, order: '', id: crypto.randomUUID(), over: false};
    const order = ranking.order;
    if (!letter) ranking.over = true;
    if (!ranking.over && !order.includes(letter)) ranking.order += letter;
    return [ranking.over ? '' : letter, set, ranking.id, order, ...rest];
  };
  window.rlhfUnplace = inputs => { ranking = {}; return inputs; };
  const say = () => { const b = document.querySelector('#because textarea'); if (!seen(b)) return false; b.focus(); return true; };
  // A vote on answers that are not complete yet waits for them; Esc takes it back, N does not lose it.
  const early = () => seen(byId('stop-drafts')) && document.querySelector('#candidates button.primary[id^=vote-], #votes button.primary[id^=vote-]');
  // A button that is made visible comes into the page a moment after what else was drawn with it.
  const soon = (id, until) => press(id) || (Date.now() < until && setTimeout(() => soon(id, until), 50), true);
  const undo = () => press('undo') || (!!early() && soon('undo', Date.now() + 1000));
  const next = () => {
    const typed = seen(document.querySelector('#prompt textarea'));
    return early() || (fresh(1000) && !typed) ? false : press('new-drafts');
  };

  const acts = {
    '1': () => press('place-a') || vote('vote-a'), '2': () => press('place-b') || vote('vote-b'),
    '3': () => press('place-c') || vote('vote-tie'), '4': () => press('place-d') || vote('vote-bad'), '5': () => vote('vote-good'),
    '0': () => vote('vote-tie'), 'ArrowLeft': () => vote('vote-a'), 'ArrowRight': () => vote('vote-b'),
    't': () => press('rest-equal'),
    's': () => press('slightly'), 'b': () => press('much'),
    'n': next,
    '+': () => under(-1), '=': () => under(-1), '-': () => under(-2),
    'u': undo, 'r': () => under('retry'), 'c': () => say() || under(0),
    '[': () => sibling('.foot button:first-child:enabled'), ']': () => sibling('.foot .nth + button:enabled'),
    '?': () => { help(); return true; },
    'g': () => { going = Date.now(); return true; },
    '/': () => {
      if (seen(box())) { box().focus(); return true; }
      const chat = byId('tab-chat-button'); if (chat) chat.click();
      setTimeout(() => box() && box().focus(), 30); return true;
    },
  };

  document.addEventListener('keydown', e => {
    if (e.isComposing || dialog.open) return;
    const t = e.target, tag = t && t.tagName;
    const pressed = tag === 'BUTTON' || (tag === 'INPUT' && /^(radio|checkbox|button)$/.test(t.type));
    const typing = (tag === 'INPUT' && !pressed) || tag === 'TEXTAREA' || tag === 'SELECT' || (t && t.isContentEditable);
    if (e.repeat && e.key === 'Enter' && tag === 'BUTTON') { e.preventDefault(); return; }  // held, it would press what takes its place
    if ((e.ctrlKey || e.metaKey) && e.shiftKey && e.key.toLowerCase() === 'o') { if (press('new-chat')) e.preventDefault(); return; }
    if (e.ctrlKey || e.metaKey) {
      const key = e.key.toLowerCase();
      const act = e.shiftKey ? {s: () => byId('side').querySelector('.toggle-button').click()}[key]
        : {k: () => { window.rlhfSidebar(true); const b = document.querySelector('#search input, #search textarea'); b.focus(); b.select(); },
           '.': () => press('settings-toggle'), '/': help}[key];
      if (act) { act(); e.preventDefault(); return; }
    }
    if ((e.ctrlKey || e.metaKey) && /^Arrow(Up|Down)$/.test(e.key) && (t === box() || !typing)) {
      if (under(e.key === 'ArrowUp' ? -1 : -2)) e.preventDefault();
      return;
    }
    if (t && t.matches && t.matches('#bot .edit-textarea') && (e.key === 'Escape' || (e.key === 'Enter' && (e.ctrlKey || e.metaKey)))) {
      const bar = t.closest('.message-row').nextElementSibling, both = bar ? bar.querySelectorAll('.icon-button-wrapper button') : [];
      const b = both[e.key === 'Escape' ? 1 : 0];
      // The message box has the focus again once the other one is gone.
      const back = () => { if (t.isConnected) requestAnimationFrame(back); else if (seen(box())) box().focus(); };
      if (b) { b.click(); e.preventDefault(); back(); }
      return;
    }
    if (e.key === 'ArrowUp' && t === box() && !t.value) {
      if (editLast()) e.preventDefault();
      return;
    }
    if (e.key === 'Escape') {
      if (press('stop') || (early() ? undo() : press('stop-drafts'))) { e.preventDefault(); return; }
      document.querySelectorAll('#why .shut, #attribution .shut').forEach(b => { if (seen(b)) b.click(); });
      if (typing) t.blur();
      return;
    }
    if (typing || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === 'Enter') {
      // Where nothing is left to vote on; a focused button keeps its own Enter, except one that was just pressed.
      const free = tag !== 'BUTTON' || t.disabled || t.getAttribute('role') === 'tab';
      const open = document.querySelector(':is(#candidates, #votes) button:is([id^=vote-], [id^=place-], #rest-equal):enabled');
      if (free && !seen(open) && !seen(byId('stop-drafts')) && next()) e.preventDefault();
      return;
    }
    if (Date.now() - going < 1500 && GO[e.key.toLowerCase()]) { going = 0; if (go(GO[e.key.toLowerCase()])) e.preventDefault(); return; }
    if (e.key.startsWith('Arrow') && tag === 'INPUT') return;  // choices move by them
    const act = acts[e.key.length === 1 ? e.key.toLowerCase() : e.key];
    if (act && act()) e.preventDefault();
  });

  // Charts are read from the table below them, which has their numbers.
  const charts = () => {
    const plots = byId('plots');
    if (!plots) return setTimeout(charts, 500);
    const mute = () => plots.querySelectorAll('svg:not([aria-hidden])').forEach(one => one.setAttribute('aria-hidden', 'true'));
    new MutationObserver(mute).observe(plots, {childList: true, subtree: true}); mute();
  };
  charts();

  const ready = () => {
    const b = box();
    if (!b || !byId('side') || !byId('theme-toggle')) return setTimeout(ready, 60);
    paint();
    if (narrow.matches) window.rlhfSidebar(false);
    try { if (localStorage.getItem(PANEL) && window.innerWidth >= 1000) window.rlhfPanel(true); } catch (_) {}
    let draft = ''; try { draft = localStorage.getItem(DRAFT) || ''; } catch (_) {}
    if (draft && !b.value) put(b, draft);
  };
  ready();
})();
