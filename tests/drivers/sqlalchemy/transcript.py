"""SQLAlchemy 2 over psycopg and asyncpg: reflection, Core, ORM."""

import asyncio
import datetime
import decimal
import re
import sys

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

URL = sys.argv[1]


def section(name):
    print(f"\n=== {name}")


def told(error):
    orig = getattr(error, "orig", None)
    # A dialect may print its own objects, with addresses.
    return type(error).__name__, getattr(orig, "sqlstate", None), re.sub(r"0x[0-9a-f]+", "0x", str(orig or error))


class Base(orm.DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.Text)
    email: orm.Mapped[str | None] = orm.mapped_column(sa.String(80))
    balance: orm.Mapped[decimal.Decimal] = orm.mapped_column(sa.Numeric(12, 2))
    created: orm.Mapped[datetime.datetime] = orm.mapped_column(sa.DateTime(timezone=True))
    tags: orm.Mapped[list] = orm.mapped_column(postgresql.ARRAY(sa.Text))
    profile: orm.Mapped[dict | None] = orm.mapped_column(postgresql.JSONB)
    purchases: orm.Mapped[list["Purchase"]] = orm.relationship(back_populates="customer", order_by="Purchase.id")


class Purchase(Base):
    __tablename__ = "purchase"
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True)
    customer_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("customer.id"))
    sku: orm.Mapped[str] = orm.mapped_column(sa.CHAR(8))
    amount: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    at: orm.Mapped[datetime.datetime]
    customer: orm.Mapped[Customer] = orm.relationship(back_populates="purchases")


class Note(Base):
    __tablename__ = "note"
    __table_args__ = (sa.UniqueConstraint("title"), {"schema": "office"})
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str] = orm.mapped_column(sa.String(40), index=True)
    level: orm.Mapped[str] = orm.mapped_column(sa.Enum("low", "high", name="level", schema="office"))
    parent_id: orm.Mapped[int | None] = orm.mapped_column(sa.ForeignKey("office.note.id"))


def reflect(connection):
    inspector = sa.inspect(connection)
    print(inspector.get_schema_names(), inspector.default_schema_name)
    for schema in (None, "office"):
        print(schema, sorted(inspector.get_table_names(schema)), sorted(inspector.get_view_names(schema)),
              sorted(inspector.get_materialized_view_names(schema)), sorted(inspector.get_sequence_names(schema)))
        for what in ("columns", "indexes", "foreign_keys", "unique_constraints", "check_constraints", "pk_constraint", "table_comment"):
            found = getattr(inspector, f"get_multi_{what}")(schema=schema, kind=sa.engine.reflection.ObjectKind.ANY)
            for key in sorted(found, key=str):
                print(what, key, re.sub(r"0x[0-9a-f]+", "0x", str(found[key])))
    print(inspector.get_enums(), inspector.get_domains("office"))
    print(inspector.get_view_definition("good_customers", "office"))
    metadata = sa.MetaData()
    metadata.reflect(connection)
    print([(t.name, [(c.name, str(type(c.type).__name__), c.nullable, c.primary_key) for c in t.columns]) for t in metadata.sorted_tables])


def work(session):
    section("reads")
    print(session.get(Customer, 7).name, session.get(Customer, 100000))
    for statement in (
        sa.select(Customer.id, Customer.name, Customer.balance).where(Customer.id == 9),
        sa.select(Customer.id, Customer.tags, Customer.profile).where(Customer.id.in_([3, 4, 12])).order_by(Customer.id),
        sa.select(sa.func.count()).select_from(Customer),
        sa.select(Customer.name, sa.func.sum(Purchase.amount)).join(Purchase).where(Customer.id < 5).group_by(Customer.name).order_by(Customer.name),
        sa.select(Customer.created).where(Customer.created > datetime.datetime(2024, 3, 1, tzinfo=datetime.timezone.utc)).order_by(Customer.id).limit(2),
        sa.text("select a_numeric, a_interval, a_uuid, a_kind::text, an_int4_array from every_type where id in (1, 4) order by id"),
    ):
        print(session.execute(statement).all())
    for customer in session.scalars(sa.select(Customer).where(Customer.id < 3).order_by(Customer.id).options(orm.selectinload(Customer.purchases))):
        print(customer.name, [(p.id, p.sku, p.amount, p.at) for p in customer.purchases])
    session.rollback()
    section("writes")
    customer = session.get(Customer, 20)
    customer.name = "changed"
    session.flush()
    print(session.scalar(sa.select(Customer.name).where(Customer.id == 20)))
    nested = session.begin_nested()
    session.execute(sa.update(Customer).where(Customer.id == 20).values(name="nested"))
    nested.rollback()
    session.expire_all()
    print(session.get(Customer, 20).name)
    session.rollback()
    print(session.get(Customer, 20).name)
    session.commit()
    session.execute(sa.update(Customer).where(Customer.id == 21).values(balance=Customer.balance + 5))
    session.commit()
    print(session.get(Customer, 21).balance)
    session.commit()
    session.add_all([Note(title=f"note {i}", level="low") for i in range(20)])
    session.commit()
    print([(n.id, n.title, n.level) for n in session.scalars(sa.select(Note).order_by(Note.id).limit(3))])
    print(session.execute(postgresql.insert(Note).values(title="note 1", level="high").on_conflict_do_update(
        index_elements=["title"], set_={"level": "high"}).returning(Note.id, Note.level)).all())
    session.commit()
    for wrong in (
        lambda: session.add(Note(title="note 1", level="low")),
        lambda: session.add(Note(title="x", level="nonsense")),
        lambda: session.execute(sa.text("select nothing from customer")),
        lambda: session.execute(sa.text("insert into purchase values (99999, 99999, 'sku-001', 1, now())")),
        lambda: session.execute(sa.text("select 1 / (id - 1) from customer where id = 1")),
    ):
        try:
            wrong()
            session.flush()
        except sa.exc.SQLAlchemyError as error:
            print(*told(error))
        session.rollback()


def one_engine(driver):
    section(driver)
    engine = sa.create_engine(URL.replace("postgresql:", f"postgresql+{driver}:"), pool_pre_ping=True)
    with engine.connect() as connection:
        reflect(connection)
        print(connection.get_isolation_level(), connection.dialect.server_version_info)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        work(session)
    section("isolation levels, streams")
    for level in ("AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            print(level, connection.get_isolation_level(), connection.scalar(sa.text("select name from customer where id = 30")))
            for i in range(8):
                print(connection.execute(sa.select(Customer.id, Customer.name, Customer.created, Customer.tags).where(Customer.id == i)).all())
    with engine.connect() as connection:
        rows = connection.execution_options(yield_per=50).execute(sa.text("select id from purchase order by id"))
        print(sum(len(part) for part in rows.partitions()))
    with engine.connect() as connection:
        two = connection.begin_twophase("both")
        connection.execute(sa.text("update customer set name = 'twice' where id = 31"))
        two.prepare()
        two.commit()
        print(connection.scalar(sa.text("select name from customer where id = 31")))
    Note.__table__.drop(engine)
    with engine.begin() as connection:
        Note.__table__.c.level.type.drop(connection, checkfirst=True)
    engine.dispose()


async def another_engine():
    section("asyncpg")
    engine = create_async_engine(URL.replace("postgresql:", "postgresql+asyncpg:"), pool_size=3)
    async with engine.connect() as connection:
        await connection.run_sync(reflect)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        await session.run_sync(work)

    async def read(i):
        async with engine.connect() as connection:
            return await connection.scalar(sa.select(Customer.name).where(Customer.id == i))

    print(await asyncio.gather(*(read(i) for i in range(20))))
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        for i in range(8):
            print((await connection.execute(sa.select(Customer.id, Customer.name, Customer.profile).where(Customer.id == i))).all())
    async with engine.connect() as connection:
        rows = await connection.stream(sa.text("select id from purchase order by id"))
        print(len([row async for row in rows]))
    async with engine.begin() as connection:
        await connection.run_sync(Note.__table__.drop)
        await connection.execute(sa.text("drop type office.level"))
    await engine.dispose()


one_engine("psycopg")
asyncio.run(another_engine())
