// The token leaves the address of the page that it opened: the cookie has taken its place.
{
  const here = new URL(location.href);
  if (here.searchParams.has('token')) {
    here.searchParams.delete('token');
    history.replaceState(history.state, '', here);
  }
}
