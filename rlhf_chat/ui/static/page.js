// What the scripts of the page's head share. page_scripts.py joins them in one scope, this one first.
const text = window.rlhfText, el = window.rlhfEl, button = window.rlhfButton;
const seen = e => e && e.offsetParent !== null && !e.disabled;
const byId = id => document.getElementById(id);
const press = id => { const b = byId(id); if (!seen(b)) return false; b.click(); return true; };
const box = () => document.querySelector('#message textarea');
const stored = key => { try { return localStorage.getItem(key) || ''; } catch (_) { return ''; } };
const store = (key, value) => { try { value ? localStorage.setItem(key, value) : localStorage.removeItem(key); } catch (_) {} };
// Once Gradio has put the page together.
const whenReady = act => box() && byId('side') && byId('theme-toggle') ? act() : setTimeout(() => whenReady(act), 60);
