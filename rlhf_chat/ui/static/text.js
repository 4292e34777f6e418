// window.rlhfText(key, params): a text of rlhf_chat/locale in the language of the page. RLHF_TEXTS is
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
})();
