LoggedIn root@shop  192.0.2.7 #30
Query 'select 1' 8
  1 results, 1 rows, 0 affected
Quit
