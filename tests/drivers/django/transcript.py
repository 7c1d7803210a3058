"""Django: introspection, migrations, the ORM, transactions, and raw SQL."""

import io
import sys
from urllib.parse import urlsplit

import django
from django.conf import settings

URL = urlsplit(sys.argv[1])
POOLED = {"ENGINE": "django.db.backends.postgresql", "HOST": URL.hostname, "PORT": URL.port, "USER": URL.username, "PASSWORD": URL.password,
          "NAME": URL.path[1:], "OPTIONS": {"options": "-c search_path=django,public"}}
settings.configure(DATABASES={"default": POOLED, "prepared": POOLED | {"OPTIONS": POOLED["OPTIONS"] | {"server_side_binding": True, "prepare_threshold": 0}}},
                   INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "shop"], USE_TZ=True,
                   DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
django.setup()

from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import DatabaseError, connections, connection, models, transaction  # noqa: E402
from django.db.models import Avg, Count, F, Q, Sum, Window  # noqa: E402
from django.db.models.functions import RowNumber, Upper  # noqa: E402
from shop.models import Customer, Purchase  # noqa: E402


def section(name):
    print(f"\n=== {name}")


def told(error):
    return type(error).__name__, getattr(error.__cause__, "sqlstate", None), str(error)


section("migrations")
with connection.cursor() as cursor:
    cursor.execute("create schema django")
out = io.StringIO()
call_command("migrate", stdout=out, no_color=True, verbosity=1)
call_command("showmigrations", stdout=out, no_color=True)
call_command("sqlmigrate", "auth", "0001", stdout=out, no_color=True)
print(out.getvalue())
section("introspection")
out = io.StringIO()
call_command("inspectdb", stdout=out)
print(out.getvalue())
with connection.cursor() as cursor:
    for table in ("customer", "purchase", "auth_user"):
        i = connection.introspection
        print(i.get_table_description(cursor, table), i.get_relations(cursor, table), i.get_sequences(cursor, table))
        for name, constraint in sorted(i.get_constraints(cursor, table).items()):
            print(name, constraint)
    print(connection.pg_version // 10000 > 0, connection.is_usable())

for using in ("default", "prepared"):
    section(f"reads, {using}")
    customers = Customer.objects.using(using)
    purchases = Purchase.objects.using(using)
    for _ in range(2):
        print(customers.filter(pk=7).values().get())
        print(list(customers.filter(id__in=[3, 4, 5]).order_by("id").values_list("id", "name", "profile")))
        print(customers.filter(name="customer 9").exists(), customers.count(), customers.filter(active=False).count())
    print(list(customers.filter(name__startswith="customer 1", balance__gt=30).order_by("-id").values_list("id", flat=True)[:5]))
    print(customers.aggregate(Avg("balance"), Sum("balance"), Count("email")))
    print(list(customers.annotate(n=Count("purchase")).filter(id__lt=4).order_by("id").values_list("id", "n")))
    print([(p.id, p.customer.name) for p in purchases.select_related("customer").filter(customer_id=8).order_by("id")])
    print([(c.id, [p.id for p in c.purchase_set.all()]) for c in customers.prefetch_related("purchase_set").filter(id__lt=3).order_by("id")])
    print(list(customers.filter(id__lt=4).annotate(row=Window(RowNumber(), order_by=F("id").desc()), upper=Upper("name")).values_list("id", "row", "upper").order_by("id")))
    print(list(customers.filter(Q(profile__level=3) | Q(id=1)).order_by("id").values_list("id", flat=True)[:4]))
    print(list(customers.raw("select * from customer where id = %s", [12]))[0].name)
    print(list(customers.dates("created", "month")), sum(1 for _ in purchases.iterator(chunk_size=200)))
    print(customers.filter(id=3).explain(costs=False) != "")

section("writes")
print(User.objects.create_user("ann", "ann@example.org", "x", id=900).username, User.objects.get(username="ann").email)
group = Group.objects.create(name="staff")
group.permissions.set(Permission.objects.filter(codename__startswith="add_"))
User.objects.get(username="ann").groups.add(group)
print(sorted(User.objects.get(username="ann").get_group_permissions()), User.objects.filter(groups__name="staff").count())
print(Group.objects.bulk_create([Group(name=f"group {i}") for i in range(5)]), Group.objects.filter(name__contains="group").update(name=F("name")))
print(Group.objects.get_or_create(name="group 1")[1], Group.objects.update_or_create(name="group 9")[1], Group.objects.filter(name="group 2").delete())
for wrong in (lambda: Group.objects.create(name="staff"), lambda: Group.objects.create(name="x" * 200), lambda: Group.objects.raw("select nothing from auth_group")[0],
              lambda: Purchase.objects.create(id=99999, customer_id=99999, sku="sku-001", amount=1)):
    try:
        with transaction.atomic():
            wrong()
            connection.check_constraints()
    except DatabaseError as error:
        print(*told(error))
with transaction.atomic():
    Customer.objects.filter(pk=20).update(name="changed")
    try:
        with transaction.atomic():
            Customer.objects.filter(pk=20).update(name="nested")
            raise KeyError
    except KeyError:
        pass
    print(Customer.objects.select_for_update().get(pk=20).name)
    transaction.set_rollback(True)
print(Customer.objects.get(pk=20).name)
Customer.objects.filter(pk=21).update(balance=F("balance") + 1)
print(Customer.objects.get(pk=21).balance)
done = []
with transaction.atomic():
    transaction.on_commit(lambda: done.append(Customer.objects.get(pk=22).name))
    Customer.objects.filter(pk=22).update(name="committed")
print(done)
section("schema changes")
with connection.schema_editor() as editor:
    class Thing(models.Model):
        title = models.CharField(max_length=20, unique=True)

        class Meta:
            app_label = "shop"

    editor.create_model(Thing)
    field = models.IntegerField(default=3, db_index=True)
    field.set_attributes_from_name("level")
    editor.add_field(Thing, field)
    editor.alter_field(Thing, Thing._meta.get_field("title"), (lambda f: (f.set_attributes_from_name("title"), f)[1])(models.TextField(db_index=True)))
with connection.cursor() as cursor:
    print(connection.introspection.get_table_description(cursor, "shop_thing"))
    cursor.execute("select id, name from customer where id = %s", [5])
    print(cursor.fetchall(), [c[:2] for c in cursor.description])
call_command("migrate", "sessions", "zero", stdout=out, no_color=True)
with connection.cursor() as cursor:
    cursor.execute("drop schema django cascade")
for c in connections.all():
    c.close()
