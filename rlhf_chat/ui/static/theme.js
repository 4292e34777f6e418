// Light, dark or as the system has it; remembered.
const THEME = 'rlhf-chat:theme';
const THEMES = {'': text('theme_system'), light: text('theme_light'), dark: text('theme_dark')};
const system = matchMedia('(prefers-color-scheme: dark)');
const paint = () => {
  const theme = stored(THEME);
  if (theme) document.body.classList.toggle('dark', theme === 'dark');
  const b = byId('theme-toggle'); if (b) b.title = THEMES[theme] || THEMES[''];
};
window.rlhfTheme = () => {
  const next = {'': 'light', light: 'dark', dark: ''}[stored(THEME)];
  store(THEME, next);
  if (!next) document.body.classList.toggle('dark', system.matches);
  paint();
};
system.addEventListener('change', () => setTimeout(paint, 50));
whenReady(paint);
