// What all scripts of the page use: texts, elements, buttons. window.rlhfText(key, params): a text of rlhf_chat/locale in the language of the page. RLHF_TEXTS is
// written in by language.py, window.rlhfLanguage by page_language.py.
(() => {
  const name = RLHF_TEXTS[window.rlhfLanguage] ? window.rlhfLanguage : 'en';
  document.documentElement.lang = name;
  const form = (entry, params) => {
    if (typeof entry === 'string') return entry;
    const chosen = params[entry.by || 'count'];
    if (String(chosen) in entry) return entry[String(chosen)];
    return chosen === 1 && 'one' in entry ? entry.one : entry.other;
  };
  window.rlhfText = (key, params = {}) => {
    const entry = RLHF_TEXTS[name][key];
    return entry === undefined ? key : form(entry, params).replace(/\{(\w+)\}/g, (_, part) => String(params[part]));
  };
  window.rlhfEl = (tag, cls, text) => {
    const e = document.createElement(tag);
    if (cls) e.className = cls;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  // A double click is one click: of the two that the browser sends only the first acts.
  window.rlhfButton = (text, act, cls, label) => {
    const b = window.rlhfEl('button', cls, text);
    b.type = 'button'; if (label) b.setAttribute('aria-label', label);
    b.onclick = e => { if (e.detail < 2) act(); }; return b;
  };
})();
